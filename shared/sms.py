"""Texts as one SMS: 160 characters of the alphabet that phones share, or 70 of any other."""

# GSM 03.38, the default alphabet. Those of the extension take the place of two.
GSM_ALPHABET = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = frozenset("^{}\\[~]|€")
GSM_LENGTH = 160
UNICODE_LENGTH = 70
ELLIPSIS = "..."

# One quotation mark in the fine form would halve what fits.
_PLAIN = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "„": '"',
        "«": '"',
        "»": '"',
        "\u2018": "'",
        "\u2019": "'",
        "\u2013": "-",
        "—": "-",
        "…": ELLIPSIS,
        "\u00a0": " ",
        "\u202f": " ",
    }
)


def fit_sms(text: str) -> str:
    """Return the text such that it is one SMS: in plain punctuation, and cut where it is too long."""
    text = " ".join(text.translate(_PLAIN).split())
    if _fits(text):
        return text
    while not _fits(text + ELLIPSIS):
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def _fits(text: str) -> bool:
    if all(character in GSM_ALPHABET or character in GSM_EXTENSION for character in text):
        return len(text) + sum(character in GSM_EXTENSION for character in text) <= GSM_LENGTH
    # What is beyond the first plane of Unicode, an emoji for example, takes the place of two.
    return len(text.encode("utf-16-le")) // 2 <= UNICODE_LENGTH
