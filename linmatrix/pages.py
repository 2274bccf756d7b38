"""Pages of the console that are neither a list nor the form of a row: reports, questions, forms of several steps.

All look alike, since all extend `console/page.html`, in unfold's layout. Any app may make one:

    return page(request, "admin/keys/own_keys.html", title="Keys of this server",
                crumbs=[Crumb("Keys", reverse("admin:keys_serverkey_changelist"))],
                buttons=[Button("Rotate", reverse("admin:keys_rotate"), icon="autorenew")], old=old)

A page's template extends `console/page.html` and fills `{% block page %}`, with unfold's components (card, table,
label, button) and the parts in `console/parts/`: `description.html` (terms and what they are), `json.html`.

What changes something is a POST. `ask` makes its page without a template: what is going to happen, the fields of a form
if there is one, and two buttons. It serves both a form (create a room) and a plain confirmation (rotate the key):

    class Reason(StyledForm, forms.Form): ...
    return ask(request, title="Ban @a:b", lead="They cannot come back until they are unbanned.", form=form,
               submit="Ban", danger=True, back=room_url)
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold import widgets


class Crumb(NamedTuple):
    """A page above the one that is shown."""

    text: str
    url: str


class Button(NamedTuple):
    """A link at the head of a page. `variant` is default, primary or danger; `icon` a name of Material Symbols."""

    text: str
    url: str
    icon: str = ""
    variant: str = "default"


def page(
    request: HttpRequest,
    template: str,
    *,
    title: str,
    crumbs: Iterable[Crumb] = (),
    buttons: Iterable[Button] = (),
    **context: Any,
) -> TemplateResponse:
    """A page of ours in the console's frame. `title` and texts are escaped; ids from outside go through
    `rooms.wording.shown` first."""
    frame = {"title": title, "crumbs": list(crumbs), "buttons": list(buttons)}
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context, **frame})


def ask(
    request: HttpRequest,
    *,
    title: str,
    submit: str,
    back: str,
    lead: str = "",
    points: Iterable[str] = (),
    form: forms.BaseForm | None = None,
    hidden: dict[str, str] | None = None,
    danger: bool = False,
    crumbs: Iterable[Crumb] = (),
    **context: Any,
) -> TemplateResponse:
    """A question that a POST to the same address answers with yes.

    `lead` says in one sentence what will happen and `points` what else there is to know. `hidden` holds what the
    answer is about, so that it cannot be given to another question. `back` is where No leads, and `danger` marks what
    cannot be taken back.
    """
    question: dict[str, Any] = {
        "submit": submit,
        "back": back,
        "lead": lead,
        "points": list(points),
        "form": form,
        "hidden": hidden or {},
        "danger": danger,
    }
    return page(request, "console/ask.html", title=title, crumbs=crumbs, **{**context, **question})


_CLASSES: tuple[tuple[type[forms.Widget], list[str]], ...] = (
    (forms.CheckboxSelectMultiple, []),
    (forms.RadioSelect, []),
    (forms.HiddenInput, []),
    (forms.CheckboxInput, widgets.CHECKBOX_CLASSES),
    (forms.Textarea, widgets.TEXTAREA_CLASSES),
    (forms.Select, widgets.SELECT_CLASSES),
    (forms.widgets.Input, widgets.INPUT_CLASSES),
)
"""unfold's look by kind of widget; the first that fits."""


class StyledForm(forms.BaseForm):
    """Gives the widgets of a form of ours unfold's look. Comes before forms.Form or forms.ModelForm."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            classes = next((names for kind, names in _CLASSES if isinstance(field.widget, kind)), [])
            given = field.widget.attrs.get("class", "")
            field.widget.attrs["class"] = " ".join([*classes, given]).strip()
