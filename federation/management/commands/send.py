"""`manage.py send`: say something in a room, or send any other event.

manage.py send ROOM alice "Good morning"
manage.py send ROOM alice --type m.room.topic --state-key "" --content '{"topic": "Launch"}'
"""

import json
from typing import Any

from django.core.management.base import CommandParser

from federation.management.acting import AsUser, Failed, user_id_of
from federation.sending import send_event

MESSAGE = "m.room.message"


class Command(AsUser):
    """Sends an event of a local user."""

    help = "Send a text message, or with --type and --content any other event, to a room."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("text", nargs="?", help="the text of the message")
        parser.add_argument("--type", default=MESSAGE, help="the event's type (%(default)s)")
        parser.add_argument("--content", metavar="JSON", help="the event's content, in place of a text")
        parser.add_argument("--state-key", default=None, metavar="KEY", help='makes it a state event; often ""')

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        sent = send_event(
            room_id=room.room_id,
            sender=user_id_of(options["user"]),
            type=options["type"],
            content=_content(options["text"], options["content"]),
            state_key=options["state_key"],
        )
        self.report(room.room_id, sent, options)


def _content(text: str | None, content: str | None) -> dict[str, Any]:
    if (text is None) == (content is None):
        raise Failed("Give either a text or --content.")
    if content is None:
        return {"msgtype": "m.text", "body": text}
    try:
        value = json.loads(content)
    except ValueError as error:
        raise Failed(f"--content is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Failed("--content must be a JSON object.")
    return value
