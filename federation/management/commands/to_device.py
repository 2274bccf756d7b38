"""`manage.py to_device`: the messages for one device, and sending one to another.

manage.py to_device read alice ABCD
manage.py to_device acknowledge alice ABCD 17
manage.py to_device send alice @bob:example.org WXYZ m.dummy '{}'
"""

import json
from typing import Any

from django.core.management.base import CommandParser

from federation.edus import inbox, to_device
from federation.management.acting import Acting, Failed, user_id_of
from linmatrix.protocol import canonical_json


class Command(Acting):
    """Reads, acknowledges and sends to-device messages, for the software that serves clients."""

    help = "Read and acknowledge the to-device messages of a device of a local user, or send one."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        read = verbs.add_parser("read", help="print what waits, a JSON object a line")
        acknowledge = verbs.add_parser("acknowledge", help="be done with messages up to a position")
        for verb in (read, acknowledge):
            verb.add_argument("user", help="a user of this server, as localpart or full id")
            verb.add_argument("device", help="device id")
        read.add_argument("--limit", type=int, default=100, help="how many at most (%(default)s)")
        acknowledge.add_argument("position", type=int, help="of the last message that is done with")
        send = verbs.add_parser("send", help="send a message to one device")
        send.add_argument("user", help="who sends: a user of this server, as localpart or full id")
        send.add_argument("target", help="whose device, as localpart or full id")
        send.add_argument("device", help="device id")
        send.add_argument("type", help="the message's type, such as m.room.encrypted")
        send.add_argument("content", metavar="JSON", help="the message's content")

    def act(self, **options: Any) -> None:
        user_id, device_id = user_id_of(options["user"]), options["device"]
        if options["verb"] == "read":
            for message in inbox.read(user_id, device_id, max(options["limit"], 0)):
                self.stdout.write(canonical_json.dumps(message._asdict()).decode(), ending="\n")
        elif options["verb"] == "acknowledge":
            done = inbox.acknowledge(user_id, device_id, options["position"])
            self.screen.print(str(done))
        else:
            target = user_id_of(options["target"])
            messages = [(target, device_id, options["type"], _content(options["content"]))]
            sent = to_device.send(sender=user_id, messages=messages)
            if sent.dropped:
                raise Failed(f"{target} has no device {device_id}")
            self.screen.print("queued" if sent.queued else "delivered")


def _content(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Failed(f"the content is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Failed("the content must be a JSON object")
    return value
