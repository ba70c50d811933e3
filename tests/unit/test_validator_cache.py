from __future__ import annotations

from dataclasses import dataclass

from schema_user.validation.cache import ValidatorCache


@dataclass(frozen=True)
class Value:
    """Something of a size."""

    name: str
    size: int = 10


def test_keeps_by_schema_and_revision() -> None:
    """Another revision of a schema is another value, and both are kept."""
    cache: ValidatorCache[Value] = ValidatorCache(100)
    cache.put(("a", 1), Value("old"))
    cache.put(("a", 2), Value("new"))
    assert (cache.get(("a", 1)), cache.get(("a", 2)), cache.get(("a", 3))) == (Value("old"), Value("new"), None)


def test_replaces() -> None:
    """A second value under a key takes the place of the first, wherever that one stands."""
    cache: ValidatorCache[Value] = ValidatorCache(100)
    for value in (Value("a", 10), Value("b", 20)):
        cache.put(("a", 1), value)
    assert (cache.get(("a", 1)), cache.size) == (Value("b", 20), 20)
    cache.put(("a", 1), Value("c", 30))
    assert (cache.get(("a", 1)), cache.size) == (Value("c", 30), 30)


def test_bounded_by_bytes() -> None:
    """The least recently used goes when the bytes are full."""
    cache: ValidatorCache[Value] = ValidatorCache(30)
    for name in "abcd":
        cache.put((name, 1), Value(name))
    assert cache.size == 30
    assert [cache.get((name, 1)) is not None for name in "abcd"] == [False, True, True, True]


def test_too_large_to_keep() -> None:
    """A value larger than the whole cache is not kept, and leaves nothing behind."""
    cache: ValidatorCache[Value] = ValidatorCache(30)
    cache.put(("a", 1), Value("a", 31))
    assert (cache.get(("a", 1)), cache.size) == (None, 0)


def test_those_used_once_push_out_nobody() -> None:
    """Ten thousand schemas that are used once leave those alone that are used again and again."""
    cache: ValidatorCache[Value] = ValidatorCache(1_000)
    used = [(f"used{number}", 1) for number in range(50)]
    for key in used:
        cache.put(key, Value(key[0]))
    assert all(cache.get(key) for key in used)
    for number in range(10_000):
        cache.put((f"once{number}", 1), Value("once"))
    assert all(cache.get(key) for key in used)
    assert cache.size <= 1_000


def test_those_used_again_make_room_for_each_other() -> None:
    """More than fits, all of it used again, stays within the bytes, and the latest are there."""
    cache: ValidatorCache[Value] = ValidatorCache(100)
    for number in range(100):
        key = (f"k{number}", 1)
        cache.put(key, Value(key[0]))
        assert cache.get(key) == Value(key[0])
        assert cache.size <= 100
    assert cache.get(("k99", 1)) == Value("k99")
    assert cache.get(("k0", 1)) is None
