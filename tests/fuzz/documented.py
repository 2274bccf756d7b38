"""Requests that Schemathesis makes from the API document, right and wrong ones, nearly all signed by a server that we
know; each answer must be one that the document has."""

from dataclasses import dataclass
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from linmatrix.openapi.document import document
from linmatrix.protocol import canonical_json
from tests.fuzz.attempts import Answer, Attempt, sign
from tests.support.peers import US, Peer

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@dataclass(frozen=True, repr=False)
class Documented(Attempt):
    """A request with what it was made from."""

    case: Any = None
    prepared: Any = None

    def check(self, answer: Answer) -> None:
        """Whether the document has this status for the endpoint, and the answer the form that it says."""
        response = Response(
            status_code=answer.status,
            headers={"content-type": [answer.content_type]},
            content=answer.body,
            request=self.prepared,
            elapsed=answer.seconds,
            verify=True,
        )
        self.case.validate_response(response, checks=CHECKS)


def documented(peer: Peer) -> st.SearchStrategy[Attempt]:
    """Requests to every operation of the document."""
    schema = schemathesis.openapi.from_dict(canonical_json.loads_object(document()))
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for operation in map(_operation, schema.get_all_operations())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    stranger = Peer(peer.name, key_id="ed25519:unknown")
    signers = st.sampled_from([peer] * 9 + [stranger])
    return st.builds(_attempt, signers, st.one_of(*strategies))


def _operation(result: Any) -> Any:
    """What Schemathesis made of an operation. Raises where it could make nothing of it."""
    return result.ok()


def _attempt(peer: Peer, case: Case) -> Documented:
    """The case as a request on the wire."""
    arguments = case.as_transport_kwargs(base_url=f"https://{US}")
    prepared = requests.Request(**arguments).prepare()
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body or b""
    assert isinstance(body, bytes), "the document has no bodies but JSON"
    method, target = prepared.method or "", prepared.path_url
    headers = {"Content-Type": "application/json", "Authorization": sign(peer, method, target, body)}
    return Documented(f"doc {case.operation.label.split('/')[-1][:7]}", method, target, body, headers, case, prepared)
