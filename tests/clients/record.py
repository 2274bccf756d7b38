"""Records tests/vectors/mls: `python -m tests.clients.record`, from the project's folder.

One story is played by ts-mls alone, by mls-rs alone and by both together. Each commit is processed by every other
member before it is written down, so what is recorded is what these libraries accept.
"""

import base64
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.clients import mls_rs, ts_mls
from tests.clients.mls import Client, Proposed
from tests.clients.ts_mls.program import HERE

FOLDER = Path(__file__).parent.parent / "vectors" / "mls"
GROUP_ID = b"!story:a.example"

New = Callable[[str, str], Client]


class Story:
    """A group as it grows and shrinks, and what is recorded of it."""

    def __init__(self, new: New) -> None:
        self._new = new
        self.clients: dict[str, Client] = {}
        self.key_packages: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []
        self.group_info = b""

    def client(self, name: str) -> Client:
        """`bob2` is the second device of @bob:b.example."""
        if name not in self.clients:
            user, number = name[:-1], name[-1]
            self.clients[name] = self._new(f"@{user}:{user[0]}.example", f"{user.upper()}{number}")
        return self.clients[name]

    def create(self, name: str) -> None:
        """The group begins."""
        self.client(name).create(GROUP_ID)

    def commit(self, what: str, by: str, *, add: Sequence[str] = (), remove: Sequence[str] = (), **how: Any) -> None:
        """One commit, processed by the members and those who are welcomed."""
        author = self.client(by)
        packages = [self._key_package(name) for name in add]
        proposed = author.commit(add=packages, remove=[self.client(name).device for name in remove], **how)
        self._settle(what, author, proposed, added=add, removed=remove)

    def join_external(self, what: str, name: str, *, resync: bool = False) -> None:
        """A client of ts-mls lets itself in."""
        author = self.client(name)
        assert isinstance(author, ts_mls.Client)
        before = author.members() if resync else {}
        assert (author.device in before.values()) is resync
        proposed = author.join_external(self.group_info, resync=resync)
        self._settle(what, author, proposed, added=[name], removed=[name] if resync else [], external=True)

    def _key_package(self, name: str) -> bytes:
        client = self.client(name)
        made = client.key_package()
        self.key_packages.append({"device": client.device, "key_package": _text(made)})
        return made

    def _settle(
        self,
        what: str,
        author: Client,
        proposed: Proposed,
        *,
        added: Sequence[str],
        removed: Sequence[str],
        external: bool = False,
    ) -> None:
        members = [client for client in self.clients.values() if self._is_member(client) and client is not author]
        author.accept()
        for client in members:
            client.process(proposed.commit)
        for name in added:
            if not external:
                assert proposed.welcome is not None
                self.client(name).join(proposed.welcome)
        now = author.members()
        for client in self.clients.values():
            if client.device in now.values():
                assert client.members() == now, f"{client.device} sees another group"
        text = f"from {author.device.device_id}".encode()
        sealed = author.encrypt(text)
        for client in self.clients.values():
            if client.device in now.values() and client is not author:
                assert client.decrypt(sealed) == text
        self.group_info = proposed.group_info
        self._now = now
        self.steps.append(
            {
                "what": what,
                "committer": author.device,
                "external": external,
                "epoch": author.epoch() - 1,
                "commit": _text(proposed.commit),
                "group_info": _text(proposed.group_info),
                "added": [self.client(name).device for name in added],
                "removed": [self.client(name).device for name in removed],
                "members": now,
            }
        )

    def _is_member(self, client: Client) -> bool:
        return client.device in getattr(self, "_now", {}).values()


def play(story: Story, *, external: bool) -> None:
    """What happens: growth past powers of two, blanks that are filled again, unmerged leaves, a tree that shrinks."""
    story.create("alice1")
    story.commit("the first commit, by the creator alone", "alice1")
    story.commit("two devices of another user at once", "alice1", add=["bob1", "bob2"])
    story.commit("new keys for a member", "bob1")
    story.commit("one more, by somebody else", "bob2", add=["carol1"])
    story.commit("and a fifth: the tree grows", "carol1", add=["dora1"])
    story.commit("new keys over leaves that are not merged yet", "alice1")
    story.commit("a device removed by another of its user", "bob1", remove=["bob2"])
    story.commit("the blank leaf is filled", "dora1", add=["erin1"])
    story.commit("new keys for whoever filled it", "erin1")
    if external:
        story.join_external("somebody lets himself in", "frank1")
        story.commit("new keys for whoever let himself in", "frank1")
        story.join_external("and again, in place of his leaf", "frank1", resync=True)
        story.commit("a commit after that", "carol1", add=["alice2"])
    else:
        story.commit("a second device of the creator", "carol1", add=["alice2"])
    story.commit("the creator's first device removed by the second", "alice2", remove=["alice1"])
    story.commit(
        "the last leaves removed: the tree shrinks", "bob1", remove=["dora1", *(["frank1"] if external else [])]
    )
    story.commit("new keys at the end", "erin1")


def write(name: str, story: Story, libraries: dict[str, str]) -> None:
    """One file; steps on lines of their own."""
    head = {"libraries": libraries, "group_id": GROUP_ID.decode()}
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
    for key in ("key_packages", "steps"):
        rows = ",\n".join(f"    {json.dumps(row)}" for row in getattr(story, key))
        lines.append(f'  "{key}": [\n{rows}\n  ]')
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """All of it."""
    rs = {"mls-rs": f"agentvault-mls-rs-uniffi {version('agentvault-mls-rs-uniffi')}"}
    ts = {"ts-mls": json.loads((HERE / "package.json").read_text())["dependencies"]["ts-mls"]}
    FOLDER.mkdir(exist_ok=True)
    with ts_mls.running() as node:
        alone = Story(node.new)
        play(alone, external=True)
        alone.key_packages.append(_last_resort(node.new("@gina:g.example", "GINA1")))
        alone.commit("a GroupInfo without the tree", "carol1", tree=False)
        alone.commit("one removed and one added at once", "carol1", remove=["erin1"], add=["hans1"])
        write("ts-mls", alone, ts)
        both = Story(lambda user, device: (node.new if user[1] in "cef" else mls_rs.Client)(user, device))
        play(both, external=True)
        write("both", both, ts | rs)
    by_mls_rs = Story(mls_rs.Client)
    play(by_mls_rs, external=False)
    write("mls-rs", by_mls_rs, rs)


def _last_resort(client: ts_mls.Client) -> dict[str, Any]:
    made = client.key_package(last_resort=True)
    return {"device": client.device, "key_package": _text(made), "last_resort": True}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
