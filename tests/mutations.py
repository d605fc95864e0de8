"""Damage to the bytes of a file, drawn from a seed: as disks, networks and strangers do it."""

from __future__ import annotations

import numpy as np

EXTREMES = (b'\0' * 8, b'\xff' * 8, b'\x7f' + b'\xff' * 7, b'\x80' + b'\0' * 7, (2**31).to_bytes(8, 'little'), b'9' * 8)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three of: truncation, flipped bits, an extreme number, bytes overwritten, left out or repeated."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        size = len(data)
        if not size:
            break
        place, length = int(rng.integers(size)), int(rng.integers(1, min(size, 64) + 1))
        kind = int(rng.integers(6))
        if kind == 0:
            del data[place:]
        elif kind == 1:
            for bit in rng.integers(8 * size, size=int(rng.integers(1, 9))):
                data[int(bit) // 8] ^= 1 << (int(bit) % 8)
        elif kind == 2:
            extreme = EXTREMES[int(rng.integers(len(EXTREMES)))][: int(rng.choice([1, 2, 4, 8]))]
            data[place : place + len(extreme)] = extreme
        elif kind == 3:
            data[place : place + length] = rng.bytes(length)
        elif kind == 4:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


def damage_ends(content: bytes, rng: np.random.Generator, reach: int = 600) -> bytes:
    """Damage in the first or last bytes, where most formats keep what they say of themselves."""
    reach = min(reach, len(content) // 2)
    if rng.integers(2):
        return damage(content[:reach], rng) + content[reach:]
    return content[:-reach] + damage(content[-reach:], rng)
