"""The cache for answers from the network: entries expire, their number is bounded."""

from linmatrix.transport.cache import TtlCache
from tests.transport.clock import Clock


def test_an_entry_lives_for_its_ttl_and_no_longer() -> None:
    clock = Clock()
    cache: TtlCache[str] = TtlCache(max_entries=2, clock=clock)
    cache.put("a", "1", ttl=60)
    clock.now = 59.9
    assert cache.get("a") == "1"
    clock.now = 60.0
    assert cache.get("a") is None


def test_the_least_recently_used_entry_makes_room() -> None:
    cache: TtlCache[str] = TtlCache(max_entries=2, clock=Clock())
    cache.put("a", "1", ttl=60)
    cache.put("b", "2", ttl=60)
    assert cache.get("a") == "1"
    cache.put("c", "3", ttl=60)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")


def test_a_new_value_replaces_the_old_and_takes_no_more_room() -> None:
    cache: TtlCache[str] = TtlCache(max_entries=2, clock=Clock())
    cache.put("a", "1", ttl=60)
    cache.put("b", "2", ttl=60)
    cache.put("b", "3", ttl=60)
    assert (cache.get("a"), cache.get("b")) == ("1", "3")


def test_what_is_forgotten_takes_no_room() -> None:
    cache: TtlCache[str] = TtlCache(max_entries=2, clock=Clock())
    cache.put("a", "1", ttl=60)
    cache.put("b", "2", ttl=60)
    cache.forget("b")
    cache.forget("unknown")
    cache.put("c", "3", ttl=60)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")
