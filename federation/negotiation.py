"""Answers are JSON whatever a request's `Accept` says (draft, "Requests and Responses")."""

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request


class AlwaysJson(BaseContentNegotiation):
    """Takes the only renderer there is. Views of `keys` use it as well, by way of the settings."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type
