"""CRC-32 of a file from those of its parts, which nobody then has to read again."""

from __future__ import annotations

from functools import cache

__all__ = ["joined_crc32"]

# x^32 + x^26 + ... + 1 of CRC-32, its coefficients from the highest bit down, x^0 first.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def joined_crc32(first: int, second: int, length: int) -> int:
    """``zlib.crc32(a + b)`` of ``first = zlib.crc32(a)``, ``second = zlib.crc32(b)``, len(b).

    A checksum is the remainder of the bytes as a polynomial over GF(2), so that appending b
    multiplies that of a by x^(8 len(b)); as `crc32_combine` of zlib.
    """
    return _product(_power(8 * length), first) ^ second


def _product(a: int, b: int) -> int:
    """a(x) b(x) modulo the polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@cache
def _square(k: int) -> int:
    """x^(2^k) modulo the polynomial."""
    return 1 << 30 if k == 0 else _product(_square(k - 1), _square(k - 1))


def _power(exponent: int) -> int:
    """x^exponent modulo the polynomial."""
    power = _ONE
    for k in range(exponent.bit_length()):
        if exponent >> k & 1:
            power = _product(_square(k), power)
    return power
