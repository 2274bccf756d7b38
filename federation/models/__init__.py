"""What is on its way between servers: inbound transactions and outbound queues."""

from federation.models.blocked import BlockedServer
from federation.models.edus import DeviceListCursor, DeviceListNotice, OutboundEdu, ToDeviceInbox, ToDeviceMessage
from federation.models.inbound import InboundTransaction
from federation.models.leaves import PendingLeave
from federation.models.outbound import Destination, OutboundLpdu, OutboundTransaction

__all__ = [
    "BlockedServer",
    "Destination",
    "DeviceListCursor",
    "DeviceListNotice",
    "InboundTransaction",
    "OutboundEdu",
    "OutboundLpdu",
    "OutboundTransaction",
    "PendingLeave",
    "ToDeviceInbox",
    "ToDeviceMessage",
]
