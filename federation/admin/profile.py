"""The form for how a peer wants to be spoken to."""

from typing import ClassVar

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError

from federation.isolation import MIN_LIMIT_BYTES
from federation.models import Destination
from federation.wire_profile import FIELDS
from linmatrix.pages import StyledForm


class ProfileForm(StyledForm, forms.ModelForm):
    """How a peer wants to be spoken to. A field that is emptied is learnt anew."""

    class Meta:
        model = Destination
        fields = FIELDS
        labels: ClassVar = {
            "stable_paths": "Serves stable paths",
            "signs_without_content": "Wants signatures of requests without a body to omit content",
            "max_body_bytes": "Largest transaction of several events, in bytes",
            "single_events": "Takes one event in a transaction",
            "timeline_state": "Needs the whole line of a room as state when it joins",
        }

    def clean_max_body_bytes(self) -> int | None:
        limit: int | None = self.cleaned_data["max_body_bytes"]
        most = settings.LIMITS.transaction_bytes
        if limit is not None and not MIN_LIMIT_BYTES <= limit <= most:
            raise ValidationError(f"From {MIN_LIMIT_BYTES:,} to {most:,} bytes, or empty.")
        return limit
