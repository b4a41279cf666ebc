import zlib

from hypothesis import given
from hypothesis import strategies as st

from tfa_perf.universe.checksum import joined_crc32


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_of_parts_it_is_that_of_the_whole(parts):
    crc = zlib.crc32(b"")
    for part in parts:
        crc = joined_crc32(crc, zlib.crc32(part), len(part))
    assert crc == zlib.crc32(b"".join(parts))


def test_of_a_part_longer_than_4_gb():
    # Zeros on zeros, so that the checksum of the long part comes from doubling a short one.
    crc, length = zlib.crc32(bytes(1 << 20)), 1 << 20
    while length < 1 << 33:
        crc, length = joined_crc32(crc, crc, length), 2 * length
        if length == 1 << 27:
            assert crc == zlib.crc32(bytes(length))
    tail = joined_crc32(crc, zlib.crc32(b"end"), 3)
    # Associativity: the same bytes, cut elsewhere.
    half = joined_crc32(zlib.crc32(bytes(1 << 20)), zlib.crc32(b"end"), 3)
    front = zlib.crc32(bytes(1 << 20))
    rest, done = front, 1 << 20
    while done < (1 << 33) - (1 << 20):
        rest, done = joined_crc32(rest, front, 1 << 20), done + (1 << 20)
    assert joined_crc32(rest, half, (1 << 20) + 3) == tail
