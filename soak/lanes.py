"""Acting as users do, by the servers' own commands, in one console per lane.

A console is a process like the others: it can be killed in the middle of what it does. What it was doing is then
unknown, and the lane goes on with a new one.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread

from linmatrix.stack.driver import Driver, Refused
from linmatrix.stack.errors import StackError
from soak.company import NAMES, STATE_TYPE, Company
from soak.ledger import Answer, Entry, Ledger, read_answer, read_refusal, text_of
from soak.schedule import Action, Member

_VERBS = {"message": "send", "state": "send", "redact": "send", "unban": "kick"}
_HUB_SECONDS = "10"
"""How long a user who waits for a hub does so. What is queued stays queued."""


class Lane:
    """Some users of one server, who act one after the other."""

    def __init__(self, company: Company, ledger: Ledger, *, lane: Member, seed: int) -> None:
        self._company = company
        self._ledger = ledger
        self._server = lane[0]
        self._seed = seed
        self._driver: Driver | None = None
        self._thread: Thread | None = None

    def start(self, actions: Iterable[Action], *, begun: float, ended: Event) -> None:
        """Do the actions in a thread of their own, each not before it is due, until they are done or `ended`."""
        self._thread = Thread(target=self._go, args=(actions, begun, ended), daemon=True)
        self._thread.start()

    def _go(self, actions: Iterable[Action], begun: float, ended: Event) -> None:
        for action in actions:
            if ended.wait(max(begun + action.at - time.monotonic(), 0)):
                return
            self.do(action, begun=begun)

    def join(self) -> None:
        """Wait until the thread has done its last action, and end the console."""
        if self._thread is not None:
            self._thread.join()
        self.kill()

    def kill(self) -> None:
        """End the console, whatever it is doing."""
        driver, self._driver = self._driver, None
        if driver is not None:
            with suppress(ValueError, OSError):  # the lane's thread has just noticed, and closed it too
                driver.close()

    def do(self, action: Action, *, begun: float) -> Entry:
        """Do one action, and note what it was answered."""
        room = self._company.rooms[action.room]
        text = text_of(self._seed, action)
        started = time.monotonic()
        answer, event_id, reason = self._answer(action, room.room_id, text)
        entry = Entry(
            number=action.number,
            at=round(started - begun, 3),
            seconds=round(time.monotonic() - started, 3),
            actor=self._company.name(action.actor),
            room_id=room.room_id,
            verb=action.verb,
            other=self._company.name(action.other) if action.other else "",
            answer=answer.value,
            event_id=event_id,
            reason=reason,
            waited=action.waits and answer is Answer.ACCEPTED,
            text=text if action.verb not in ("join", "invite", "redact") else "",
        )
        self._ledger.note(entry)
        return entry

    def _answer(self, action: Action, room_id: str, text: str) -> tuple[Answer, str, str]:
        """What came of an action: the answer, the id of an event, and a reason."""
        words = self._words(action, room_id, text)
        if not words:
            return Answer.SKIPPED, "", "the message to redact does not exist"
        try:
            # Another thread may end it at any moment, and forget it then.
            self._driver = driver = self._driver or Driver(self._company.servers[self._server])
            lines = driver.run(*words)
        except Refused as refusal:
            return *read_refusal(refusal), str(refusal)
        except (StackError, OSError, ValueError) as cut_off:
            self.kill()
            return Answer.UNKNOWN, "", str(cut_off)
        return *read_answer(lines), ""

    def _words(self, action: Action, room_id: str, text: str) -> list[str]:
        """The command that an action is; nothing when it is about something that does not exist."""
        verb = _VERBS.get(action.verb, action.verb)
        words = [verb, room_id, NAMES[action.actor[1]]]
        match action.verb:
            case "message":
                words.append(text)
            case "state":
                content = json.dumps({"body": text})
                words += ["--type", STATE_TYPE, "--state-key", f"{action.number % 5}", "--content", content]
            case "redact":
                assert action.of is not None
                of = self._ledger.event_of(action.of)
                if not of:
                    return []
                words += ["--type", "m.room.redaction", "--content", json.dumps({"redacts": of})]
            case "leave" | "knock":
                words += ["--reason", text]
            case "kick" | "ban" | "unban":
                assert action.other is not None
                words += [self._company.name(action.other), "--reason", text]
            case "invite":
                assert action.other is not None
                words.append(self._company.name(action.other))
        return [*words, *(["--timeout", _HUB_SECONDS] if action.waits else ["--no-wait"])]
