"""Every setting that there is, by what it is about.

docs/settings.md is this table for people; a test keeps the two together, and the code to both.
"""

from linmatrix.environment.around_the_server import DEVELOPMENT, FRONT, STACK
from linmatrix.environment.of_the_server import IDENTITY, OTHERS, PROCESSES, REQUESTS, ROOMS

GROUPS = {
    "Who it is, and where its data is": IDENTITY,
    "Rooms and users": ROOMS,
    "Other servers": OTHERS,
    "Requests": REQUESTS,
    "Processes": PROCESSES,
    "Deployment": FRONT,
    "make run": STACK,
    "Development only": DEVELOPMENT,
}
SETTINGS = {setting.name: setting for group in GROUPS.values() for setting in group}
