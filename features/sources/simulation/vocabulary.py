"""What the newsroom writes about: fragments of prose by category and storyline. Data, no computation.

One category a block: its name, then the people and the places it mentions. Below them come its storylines:
subjects on the first line, what they did on the next, then one detail a line. Semicolons part alternatives.
"""

TOPICS = """
sport
  people: Marta Lindqvist; Theo Okafor; Ines Barreto; Jonah Pike; Sanna Virtanen; Luca Moretti
  places: Rotterdam; Valencia; Gothenburg; Leeds; Porto; Graz
  the title race; the league leaders; the top of the football table; the relegation battle
    tightened after a late equaliser; swung on a disputed penalty; turned on a goal in stoppage time
    {person} scored twice in the second half as {place} moved within a point of first place.
    The draw leaves four clubs with a chance and {place} with the better goal difference.
  the transfer window; the striker's transfer; the club's summer signings; the release clause
    stalled over agent fees; broke the club's record; collapsed after a failed medical
    {person} is expected in {place} for a medical, and the clubs still argue over the instalments.
    A loan with an option to buy is now the likeliest deal for {person}.
  the cycling tour; the mountain stage; the peloton; the breakaway riders
    split on the final climb; shattered in the crosswinds; waited for the time trial
    {person} attacked eleven kilometres from the summit above {place} and took the yellow jersey.
    Teams rode ninety kilometres of gravel before the finish in {place}.
  the tennis draw; the wildcard finalist; the clay-court season; the defending champion on court
    opened with a five-set upset; lost the tiebreak after match points; rested a sore wrist
    {person} saved three break points with a second serve in {place}.
    Rain pushed the quarter-final in {place} to a Monday morning.
politics
  people: Helena Varga; Daniel Osei; Ruth Callaghan; Tomas Brandt; Amira Haddad; Pieter Claes
  places: the capital; Brussels; the northern districts; the upper house; the port cities; Vienna
  the coalition talks; the governing parties; the minority cabinet; the coalition agreement
    stumbled over the finance ministry; survived a confidence vote; broke up before midnight
    {person} asked for two more days, and the smaller partner in {place} refused.
    A leaked draft shows eleven pages on which the parties do not agree.
  the election campaign; the swing voters; the televised debate; the polling average
    shifted in the last week; rewarded the challenger; came down to turnout
    {person} spent the weekend knocking on doors in {place}.
    Postal ballots from {place} will be counted first, and they seldom look like the rest.
  the border treaty; the asylum rules; the migration pact; the reception centres
    divided the member states; went to the constitutional court; passed by four votes
    {person} wants quotas, while mayors in {place} ask for beds and teachers.
    Officials count nine hundred open applications for every caseworker.
  the corruption inquiry; the lobbying register; the donations scandal; the ethics committee
    named two former ministers; reached the prime minister's office; asked for the missing emails
    {person} denied having met the donor in {place} and then found the photograph.
    Investigators follow nine payments through a consultancy with no staff.
business
  people: Claire Fontaine; Rajiv Menon; Otto Lindgren; Beatriz Salas; Kenji Arai; Moira Dunn
  places: Frankfurt; Singapore; the industrial north; Dublin; Chicago; Antwerp
  the central bank; the interest rate; the inflation figures; the mortgage market
    surprised every forecaster; cooled faster than wages; held steady for a third month
    {person} said that a cut before autumn needs better data from {place}.
    Households with variable loans in {place} pay two hundred more a month than a year ago.
  the chip maker; the battery factory; the car plant; the steel mill's order book
    moved production overseas; added a night shift; ran out of a single component
    {person} promised that {place} would keep its four hundred assembly jobs.
    Suppliers near {place} have stock for nineteen days.
  the merger; the hostile takeover; the buyout offer; the shareholders' revolt
    drew a rival bid; failed at the competition authority; doubled the share price
    {person} called the offer too low, and funds in {place} quietly bought more.
    Lawyers expect the regulator to ask for the sale of two brands.
  the start-up; the delivery app; the venture fund; the founders' second round
    closed at half the old valuation; laid off a third of its staff; turned a first profit
    {person} built it in a kitchen in {place} and now answers to eleven investors.
    The company burns four million a month and has seven months left.
technology
  people: Nadia Rahman; Felix Hartmann; Yuki Tanabe; Grace Oduya; Emil Novak; Priya Nair
  places: Tallinn; Seoul; the valley; Eindhoven; Bangalore; Montreal
  the language model; the chatbot; the machine-learning lab; the training data
    passed a medical exam; invented its sources; shrank to fit a telephone
    {person} showed in {place} that a model a tenth of the size did as well on the new benchmark.
    Teachers in {place} mark essays and no longer know who wrote them.
  the ransomware attack; the password breach; the spyware firm; the hospital's hacked servers
    exposed four million accounts; spread through a printer update; went unnoticed for months
    {person} traced the intrusion to an unpatched router in {place}.
    The attackers asked for payment in two currencies and published a sample of the files.
  the folding phone; the budget laptop; the smartwatch; the wireless headphones
    arrived with a better battery; lost its headphone socket; cost less than last year's
    {person} carried it through {place} for a week and charged it twice.
    The screen is bright enough for noon, the camera is not good enough for night.
  the open-source project; the volunteer maintainers; the new compiler; the operating-system kernel
    changed its licence; fixed a bug from the nineties; forked after a quarrel
    {person} has kept the library alive from {place} on evenings and donations.
    Half of the web's shops depend on code that three people review.
science
  people: Ada Kowalska; Samuel Mbeki; Ingrid Solheim; Victor Almeida; Leila Farahani; Hugh Penrose
  places: Geneva; the Atacama; Uppsala; Cambridge; the polar station; Kyoto
  the Mars rover; the lunar lander; the rocket's second stage; the space station's crew
    sent its first samples; missed the launch window; survived a dust storm
    {person} watched the descent from {place} with the signal eleven minutes late.
    Engineers will try to free the stuck drill arm at the weekend.
  the dinosaur fossil; the cave painting; the Bronze Age grave; the excavation
    rewrote the timeline; came out of a quarry wall; held a second skeleton
    {person} brushed the jawbone clean in a shed near {place}.
    Radiocarbon dates from {place} are four centuries older than the pottery.
  the particle collider; the dark-matter detector; the quantum experiment; the neutrino signal
    disagreed with the standard model; reached a record temperature; vanished in more data
    {person} asked colleagues in {place} to repeat the measurement blind.
    The odds of chance are one in nine thousand, which physicists call interesting.
  the octopus study; the migrating cranes; the bees' memory; the wolves' calls
    hinted at a kind of planning; depended on the oldest animals; crossed a continent
    {person} filmed the animals near {place} for three winters.
    Birds that were raised alone in {place} took the longer route.
health
  people: Dr Elif Aydin; Dr Noah Brenner; Dr Carmen Ruiz; Dr Peter Agyeman; Dr Lin Wei; Dr Asta Berg
  places: the university hospital; Lyon; the county clinic; Toronto; Cape Town; Munich
  the sleep study; the night-shift workers; the insomnia clinic; the afternoon nap
    beat a course of pills; depended on morning light; lost an hour in ten years
    {person} asked two hundred volunteers in {place} to leave their phones in the kitchen.
    Those who got up at the same hour each day fell asleep fourteen minutes sooner.
  the flu vaccine; the measles outbreak; the new virus variant; the booster campaign
    protected nine in ten; closed two schools; arrived earlier than last winter
    {person} counts empty cots on the ward of {place} with relief.
    Wastewater samples showed the rise a week before the surgeries did.
  the emergency ward; the waiting list; the nurses' strike; the ambulance service
    turned patients away; fell for the first time in years; ran on borrowed staff
    {person} has covered eleven nights this month at {place}.
    A hip operation now takes nine months to reach, half a year more than promised.
  the running plan; the strength class; the knee exercises; the ten-minute workout
    helped people over sixty most; worked without a gym; eased back pain in six weeks
    {person} starts every group in {place} with balance on one leg.
    Two short sessions a week did nearly as much as five.
culture
  people: Odile Marchand; Ben Achterberg; Rosa Delgado; Milo Jansen; Fatou Diallo; Anya Petrova
  places: Venice; the old theatre; Lisbon; Berlin; the festival tent; Krakow
  the debut film; the director's cut; the festival premiere; the silent documentary
    won the jury's prize; divided the critics; was shot in one take
    {person} cast amateurs from {place} and let them keep their own names.
    The last reel runs eleven minutes without a word of dialogue.
  the prize-winning novel; the translated memoir; the poet's letters; the publisher's autumn list
    sold out in a week; stayed in a drawer for decades; borrowed from a family scandal
    {person} wrote it on the night train to {place}.
    The narrator lies from the first chapter on, and the reader is told so.
  the string quartet; the jazz trio; the singer's third album; the opera's new staging
    played to a full house; replaced its drummer; sounded warmer than on record
    {person} recorded in a chapel near {place} with two microphones.
    The slow movement took a minute longer than anyone remembers it.
  the museum; the stolen painting; the sculpture garden; the photographer's archive
    reopened after six years; turned up at an auction; returned to its heirs
    {person} hung the portraits in {place} at the eye level of a child.
    Conservators found a second landscape under the varnish.
travel
  people: Greta Sommer; Idris Bello; Paula Nunes; Callum Reid; Mei Chen; Stefan Ilic
  places: the Dolomites; Tbilisi; the Hebrides; Oaxaca; Ljubljana; Hokkaido
  the night train; the sleeper compartment; the railway pass; the branch line
    returned after a decade; beat the morning flight; sold out by Easter
    {person} boarded with a book and woke above {place}.
    A couchette costs less than a hotel, and the breakfast comes with the border.
  the hiking trail; the mountain hut; the coastal path; the pilgrims' route
    reopened after the landslide; filled up by noon; rewarded an early start
    {person} walked the ridge over {place} in five days with a nine-kilo pack.
    Water is scarce after the second pass, so fill both bottles at the chapel.
  the beach town; the island ferry; the family resort; the quiet bay
    emptied after August; banned parasols at dawn; kept its prices
    {person} found a room above the harbour of {place} for the price of a lunch.
    The ferry goes twice a day and waits for nobody.
  the long weekend in town; the old quarter; the rooftop hostel; the city's street markets
    suited a small budget; filled with stag parties; was best on foot
    {person} crossed {place} by tram number nine with a paper cone of chestnuts.
    Museums are free on the first Sunday, and the queue proves it.
food
  people: Nonna Teresa; Chef Arjun Rao; Birgit Holm; Marcel Dupuis; Aiko Mori; Sam Whitlock
  places: Bologna; the harbour market; Lima; Copenhagen; Hanoi; the village bakery
  the sourdough loaf; the rye bread; the weekend bakers; the laminated pastry
    rose overnight in the fridge; failed with fresh flour; needed only four ingredients
    {person} in {place} folds the dough six times and then leaves it alone.
    Steam in the first ten minutes makes the crust, patience makes the crumb.
  the tasting menu; the harbour restaurant; the three-table bistro; the star chef
    lost its star; served only vegetables; took bookings by postcard
    {person} cooks for eleven guests a night in {place} and washes up too.
    The bill for two, with wine, was less than the parking fine.
  the lentil stew; the one-pot supper; the weekday curry; the roasted squash
    cooked in half an hour; tasted better the next day; fed six for little money
    {person} learnt it in {place} and has left out the cream ever since.
    Fry the spices until the kitchen smells of them, then add the tomatoes.
  the natural wine; the small brewery; the olive harvest; the coffee growers
    lost half a crop to frost; sold straight from the barrel; found buyers abroad
    {person} presses within four hours of picking on a slope near {place}.
    The bottle tastes of green apple and a little of the barn.
environment
  people: Maren Falk; Joseph Kamau; Silvia Conti; Arne Dahl; Tara Singh; Lucie Moreau
  places: the delta; the Alps; the Baltic coast; Nairobi; the river valley; Andalusia
  the offshore wind farm; the solar panels; the power grid; the heat-pump subsidy
    supplied a record share; waited years for a connection; cut bills by a third
    {person} counts eighty turbines from the harbour office on {place}.
    At noon in May the price of electricity fell below zero for four hours.
  the river flood; the storm surge; the levees; the evacuated villages
    rose two metres overnight; broke at the old bridge; taught the planners a lesson
    {person} rowed neighbours out of {place} in a borrowed boat.
    Insurers now ask for the height of the doorstep.
  the beaver pair; the rewilded meadow; the lynx; the returning salmon
    came back after a century; dammed the wrong brook; divided farmers and rangers
    {person} follows the tracks near {place} with a camera and a thermos.
    The marsh holds water that the fields below used to lose in a week.
  the plastic treaty; the deposit scheme; the recycling plant; the repair café
    missed its target; doubled the returned bottles; ended in an incinerator
    {person} sorts by hand what the machines in {place} cannot see.
    A third of what goes into the yellow bin should never have been there.
"""
