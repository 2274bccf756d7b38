"""Who is in the groups of these tests."""

from tests.support.mls_writer import MlsDevice

GROUP_ID = b"!room:hub.example.org"
ALICE, BOB, CAROL, DAVE, ERIN, ZOE = (
    MlsDevice(f"@{name}:{name[0]}.example.org", name.upper())
    for name in ("alice", "bob", "carol", "dave", "erin", "zoe")
)
BOB_AGAIN = MlsDevice(BOB.user_id, BOB.device_id, generation=1)
"""The same device with another signature key."""
BOB_TWO = MlsDevice(BOB.user_id, "SECOND")
"""Another device of the same user."""
