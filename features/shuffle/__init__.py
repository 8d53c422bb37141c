"""The features and the state of a slice in parts that many workers make, equal to what one makes in one go.

What belongs to one person is made of a bucket of people by itself. What everybody adds to is made tick by tick: each
tick's sums are found by themselves, put one after the other, and give what stood at each tick's start.

ticks.py      a slice's time in ticks, a frame in ticks or buckets
people.py     a bucket of people: what it tells each tick, what it reads and remembers in the end
crowd.py      a tick of everybody: what it adds to the shared counters, what it reads of them

`pipelines/work/bucketed.py` carries the frames from one to the next.
"""
