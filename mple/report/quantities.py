"""Quantities in words: sizes, shares, durations as people read them. Pure."""

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, so that no line breaks there."""
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def size_text(size: float) -> str:
    """Bytes in decimal units with three digits: 512 B, 20.1 kB, 24.6 MB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(size) < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{_signed(size, '.0f' if unit == 'B' else _three_digits(size))}{SPACE}{unit}"


def binary_size_text(size: int) -> str:
    """A power of two in binary units: 16 B, 4 KiB, 1 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size}{SPACE}{unit}"
        size //= 1024
    return f"{size}{SPACE}GiB"


def change_text(ratio: float) -> str:
    """A ratio as its difference from one: 0.648 is \N{MINUS SIGN}35.2 %."""
    percent = 100 * (ratio - 1)
    digits = ".2f" if abs(percent) < 10 else ".1f"
    text = format(abs(percent), digits)
    sign = "" if float(text) == 0 else MINUS if percent < 0 else "+"
    return f"{sign}{text}{SPACE}%"


def share_text(share: float) -> str:
    """A part of one in percent; a part that would round to zero reads "< 0.01 %"."""
    if share == 0:
        return f"0{SPACE}%"
    if abs(share) < 0.0001:
        return f"<{SPACE}0.01{SPACE}%"
    return f"{_signed(100 * share, '.2f' if abs(share) < 0.1 else '.1f')}{SPACE}%"


def duration_text(seconds: float) -> str:
    """Seconds as 0 s, 12.3 ms, 8.41 s, 3 min 15 s or 2 h 5 min."""
    if seconds == 0:
        return f"0{SPACE}s"
    if seconds < 60:
        value, unit = (1000 * seconds, "ms") if seconds < 0.9995 else (seconds, "s")
        return f"{format(value, _three_digits(value))}{SPACE}{unit}"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def number_word(number: int) -> str:
    """Numbers up to twelve in words."""
    return _WORDS[number] if 0 <= number < len(_WORDS) else f"{number:,}"


def signed_text(value: float, digits: str) -> str:
    """A difference with its sign, by a format such as `,d` or `.4f`; zero has none."""
    text = format(abs(value), digits)
    if not text.strip("0.,"):
        return text
    return (MINUS if value < 0 else "+") + text


def _signed(value: float, digits: str) -> str:
    return MINUS * (value < 0) + format(abs(value), digits)


def _three_digits(value: float) -> str:
    size = abs(value)
    return ".2f" if size < 9.995 else ".1f" if size < 99.95 else ".0f"
