"""Every rule has a test that sees it refuse, and every one is told from the others by its name."""

import re
from pathlib import Path

from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.mls import InvalidMls, Rule

HERE = Path(__file__).parent


def test_every_rule_is_asserted_somewhere():
    asserted = set()
    for path in HERE.glob("test_*.py"):
        asserted.update(re.findall(r"\bRule\.([A-Z_]+)\b", path.read_text()))
    assert {rule.name for rule in Rule} - asserted == set()


def test_a_refusal_is_like_any_other_rule_s():
    refusal = InvalidMls(Rule.EPOCH, "why")
    assert isinstance(refusal, Rejected)
    assert (refusal.rule, str(refusal)) == ("mls.epoch", "rule mls.epoch: why")
    assert all(re.fullmatch(r"mls\.[a-z_]+", rule) for rule in Rule)
