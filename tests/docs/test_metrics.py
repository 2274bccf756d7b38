"""The alert rules and the dashboard name metrics that there are, and docs/metrics.md names all of them."""

import json
import re

import pytest
import yaml

from linmatrix.metrics import state
from linmatrix.metrics.instruments import REGISTRY
from linmatrix.metrics.state import State
from linmatrix.stack.server import PROJECT
from tests.docs.test_protocol_coverage import named

DOCS = PROJECT / "docs"
PAGE, ALERTS, DASHBOARD = DOCS / "metrics.md", DOCS / "alerts.yml", DOCS / "grafana" / "linmatrix.json"
_NAME = re.compile(r"\blinmatrix_[a-z_]+")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

EVERYTHING = State(
    destinations={"known": 1}, lags={"none": 1}, queues={"gaps": 0}, connections=(1, 2), sizes={"event": 1}, messages=0
)


def families():
    """Every metric with its type."""
    return {family.name: family.type for family in (*REGISTRY.collect(), *state._gauges(EVERYTHING))}


def series():
    """Every name that a query can ask for."""
    return {name + suffix for name, kind in families().items() for suffix in _SUFFIXES[kind]}


def queries():
    """What the alert rules and the dashboard ask, by where."""
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_what_there_is(where, query):
    asked = set(_NAME.findall(query))
    assert asked or query.startswith(("up{", "sum(up{"))
    assert asked <= series()


def test_a_query_selects_values_that_there_are():
    """Of labels whose values are listed in the code."""
    values = {
        "lag": {"none", *(name for name, _ in state.LAGS), "over_1h"},
        "queue": set(state._QUEUES),
        "kind": {"web", "worker"},
        "state": {*state.DESTINATION_STATES, "used", "most"},
    }
    for _, query in queries():
        for label, value in re.findall(r'\b(lag|queue|kind|state)="([^"]+)"', query):
            assert value in values[label]


def test_every_rule_says_what_it_means_and_what_to_do():
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"info", "warning", "critical"}
            assert rule["annotations"].keys() == {"summary", "description"}


def test_the_page_lists_every_metric_and_no_other():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `linmatrix_")]
    listed = [named(line.split("|")[1])[0] for line in rows]
    counters = {name + "_total" if kind == "counter" else name for name, kind in families().items()}
    assert sorted(listed) == sorted(counters)


def test_the_page_names_each_label():
    labels = {
        f"{family.name}_total" if family.type == "counter" else family.name: family for family in REGISTRY.collect()
    }
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `linmatrix_"):
            name, _, said = (cell.strip() for cell in line.strip("|").split("|")[:3])
            family = labels.get(name.strip("`"))
            if family is not None and family.samples:
                names = {label for sample in family.samples for label in sample.labels} - {"le"}
                assert names <= set(named(said)), name
