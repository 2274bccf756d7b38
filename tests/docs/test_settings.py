"""docs/settings.md, .env.example, docker-compose.yml and the code know the same settings, with the same defaults."""

import re
from pathlib import Path

import pytest
import yaml

from linmatrix.environment.reading import PREFIX, InvalidSettings, read, unknown
from linmatrix.environment.table import GROUPS, SETTINGS
from linmatrix.stack.server import PROJECT

PAGE = PROJECT / "docs" / "settings.md"
EXAMPLE = PROJECT / ".env.example"
COMPOSE = PROJECT / "docker-compose.yml"
PACKAGES = ("linmatrix", "keys", "rooms", "federation", "tests", "bench", "soak")
NAME = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b")
FOR_EXAMPLES = {"LINMATRIX_FOO", "LINMATRIX_SERVERNAME"}
"""Names in tests that are no settings, on purpose."""


def files_of_code() -> list[Path]:
    return [file for package in PACKAGES for file in (PROJECT / package).rglob("*.py")]


@pytest.mark.parametrize("heading", GROUPS)
def test_every_setting_has_its_row_with_what_the_code_says(heading: str) -> None:
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{item.name}` | {f'`{item.default}`' if item.default else ''} | {item.takes} | {item.meaning} |"
        for item in GROUPS[heading]
    ]


def test_every_name_in_the_code_is_a_setting() -> None:
    named = {name for file in files_of_code() for name in NAME.findall(file.read_text())}
    assert named - SETTINGS.keys() - FOR_EXAMPLES == set()


def test_every_setting_of_a_server_is_explained_in_the_example() -> None:
    text = EXAMPLE.read_text()
    in_compose = {"LINMATRIX_DATA_DIR", "DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR"}
    for_the_front = {"LINMATRIX_WEB_HOST", "LINMATRIX_WEB_PORT", "LINMATRIX_DNS", "LINMATRIX_FRONT_OPTIONS"}
    expected = (
        {setting.name for setting in SETTINGS.values() if setting.reader in ("server", "deployment")}
        - in_compose
        - for_the_front
    )
    assert {name for name in expected if not re.search(rf"^#?{name}=", text, re.MULTILINE)} == set()


def test_the_example_names_nothing_else() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert named - SETTINGS.keys() == set()


def test_the_compose_file_names_nothing_else() -> None:
    assert set(NAME.findall(COMPOSE.read_text())) - SETTINGS.keys() == set()
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    given = {
        name for service in services.values() for name in service.get("environment", {}) if name.startswith(PREFIX)
    }
    assert given - SETTINGS.keys() == set()


def test_what_the_example_gives_can_be_used() -> None:
    given = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    given.pop("LINMATRIX_CA_FILE")  # of a file that is not here
    read({name: value.strip("'") for name, value in given.items()})


WRONG = {
    "LINMATRIX_SERVER_NAME": ("1.2.3.4", "cannot be a server's name"),
    "LINMATRIX_WELL_KNOWN_SERVER": ("a b", "cannot be a server's name"),
    "DATABASE_URL": ("mysql://me:secret@db/x", "begins with postgres://"),
    "REDIS_URL": ("redis://h:port", "begins with redis://"),
    "LINMATRIX_DEFAULT_ROOM_VERSION": ("9", "is none of I.1"),
    "LINMATRIX_OPEN_LOCALPARTS": ("maybe", "neither yes nor no"),
    "LINMATRIX_INVITE_ALLOW": ("*.example.org,a b", "'a b' is no glob"),
    "LINMATRIX_ALLOW_PRIVATE_ADDRESSES": ("8.8.8.0/24", "no part of a private network"),
    "LINMATRIX_TRUSTED_PROXIES": ("8.8.8.0/24", "no part of a private network"),
    "LINMATRIX_CA_FILE": ("/nowhere/ca.pem", "there is no file /nowhere/ca.pem"),
    "LINMATRIX_NOTARIES": ("notary.example.org,[", "'[' cannot be a server's name"),
    "LINMATRIX_SEND_TIMEOUT": ("nan", "no number from 1 to 600"),
    "LINMATRIX_LIMITS": ("join_second=1", "did you mean join_seconds?"),
    "LINMATRIX_RATE_LIMITS": ("[]", "no JSON object"),
    "LINMATRIX_SERVER_OVERRIDES": ("peer", "is not name=scheme://address:port"),
    "LINMATRIX_ALLOWED_HOSTS": ("https://x", "no host name"),
    "LINMATRIX_CSRF_TRUSTED_ORIGINS": ("admin.example.org", "no origin like https://"),
    "LINMATRIX_DATABASE_POOL": ("-1", "no whole number from 1 to 1000"),
    "LINMATRIX_LOG_LEVEL": ("LOUD", "none of DEBUG"),
    "LINMATRIX_METRICS_LISTEN": ("9464", "no address and port"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_cannot_be_used_is_told_with_the_name_and_what_would_do(name: str) -> None:
    value, said = WRONG[name]
    with pytest.raises(InvalidSettings) as error:
        read({name: value})
    assert str(error.value).startswith(f"{name}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_an_empty_value_is_as_good_as_none() -> None:
    assert read(dict.fromkeys(SETTINGS, "")) == read({})


def test_all_that_is_wrong_is_told_together() -> None:
    with pytest.raises(InvalidSettings, match=r"LINMATRIX_SEND_TIMEOUT: .*; LINMATRIX_DATABASE_POOL: "):
        read({"LINMATRIX_SEND_TIMEOUT": "0", "LINMATRIX_DATABASE_POOL": "0"})


def test_a_name_that_is_no_setting_is_told_with_the_one_that_may_be_meant() -> None:
    given = {"LINMATRIX_SERVERNAME": "x", "LINMATRIX_FOO": "1", "LINMATRIX_DEBUG": "1", "HOME": "/"}
    assert unknown(given) == {"LINMATRIX_SERVERNAME": "LINMATRIX_SERVER_NAME", "LINMATRIX_FOO": ""}
