"""What a column's name suggests about its content, in several naming styles and languages.

Names only break ties between columns whose content fits (`column_content.py`).
"""

import re
from collections.abc import Mapping

_WORDS: Mapping[str, str] = {
    "user": "user uid visitor customer cust client member reader account person profile subscriber buyer cookie "
    "viewer listener player student author who device kunde benutzer nutzer leser usuario cliente utilisateur "
    "lecteur utente klant gebruiker lezer bruger kund anvandare usuária utilizador uzytkownik пользователь "
    "用户 ユーザー",
    "time": "time timestamp ts datetime date at when epoch dat happened occurred created shown viewed rated "
    "logged zeit zeitpunkt datum uhrzeit fecha hora heure tempo data tidspunkt tid tijd quando 时间 日期",
    "known": "known arrived arrival received ingested ingest loaded processed inserted recorded synced landed",
    "item": "item article sku product prod movie film video song track book asset doc document news story post "
    "recipe hotel listing job offer ad content answer candidate candidates asin isbn artikel produkt produit "
    "producto articulo articolo prodotto noticia nieuws inhalt 商品 物品",
    "shown": "shown inview view viewed impression impressions displayed exposed candidates slate items list "
    "recommended served ranking gezeigt mostrados affiches",
    "clicked": "clicked click clicks click_through taken took chosen selected label target purchased bought "
    "ordered response positive relevant relevance is_click ctr geklickt clicado clique hecho opened engaged",
    "grade": "rating score stars star grade vote note review bewertung note puntuacion calificacion "
    "valutazione avaliacao nota cijfer betyg karakter 评分",
    "impression": "impression imp request req query search serp slate list page pageview ranking exposure "
    "recommendation reco requestid",
    "session": "session visit sess sitzung sesion sessione sessao sessie basket visite",
    "position": "position pos rank slot place index posicion posizione plats",
    "kind": "event type action kind interaction behaviour behavior activity ereignis aktion evento accion",
    "purchase": "purchase purchases transaction transactions order orders sale sales price amount basket checkout "
    "bought paid quantity kauf preis compra precio achat prix ordine prezzo",
    "title": "title name headline heading subject caption label question titel titulo titre titolo nome nombre "
    "nom naam navn overskrift 标题",
    "body": "body description desc text abstract content summary detail details plot overview answer synopsis "
    "lead story beschreibung inhalt descripcion resumen descrizione resume texte omschrijving tekst 描述 内容",
    "published": "published publish publication released release created creation issued posted added launch "
    "veroffentlicht erschienen publicado publie pubblicato gepubliceerd udgivet uitgave",
    "identifier": "id ids key code no nr number num uuid guid ean upc gtin imdb tmdb hash url uri link image img "
    "path",
    "attribute": "category categories kategorie categoria categorie type class group brand department section genre "
    "channel color colour index kind topic language country region",
    "total": "total totals count counts views inviews pageviews clicks popularity sales votes vote cnt likes downloads "
    "plays",
    "outcome": "next read scroll dwell duration percentage percent seconds clicked revenue converted returned "
    "position rank total score count price amount lag",
}
_ROLES = {role: frozenset(words.split()) for role, words in _WORDS.items()}
_SUFFIXES = ("ids", "id", "nr", "no", "s", "at", "time")


def parts(name: str) -> list[str]:
    """Split a name into words in lower case: `userId`, `user_id` and `USER-ID` → `user`, `id`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [part for part in re.split(r"[\W_]+", snake.lower()) if part]


def suggests(name: str, role: str) -> bool:
    """Whether a name has a word of a role, perhaps with a suffix such as `id` or `at` (`visitorid`)."""
    words, name_parts = _ROLES[role], parts(name)
    if any(part in words for part in name_parts):
        return True
    return any(
        part.removesuffix(end) in words
        for part in name_parts
        for end in _SUFFIXES
        if len(part) > len(end) + 2
    )


def begins_with(name: str, role: str) -> bool:
    """Whether a name begins with a word of a role."""
    return next(iter(parts(name)), None) in _ROLES[role]
