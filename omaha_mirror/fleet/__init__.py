"""The fleet: the machines with their checks, answers and events.

`FleetRecorder` stores them and never delays or fails an answer; `FleetReader` reads them; `explain` puts them into
sentences.
"""

from omaha_mirror.fleet.backlog import BoundedQueue
from omaha_mirror.fleet.database import BadDatabaseURL, Database
from omaha_mirror.fleet.explain import Cause, cause_of, explain
from omaha_mirror.fleet.listing import MachineQuery, Page
from omaha_mirror.fleet.model import (
    FETCHED,
    CheckIn,
    DecisionRun,
    Event,
    EventReport,
    Machine,
    State,
    Transfer,
    facts_of,
)
from omaha_mirror.fleet.reader import (
    Census,
    FleetReader,
    FleetUnavailable,
    History,
    MachineEvent,
    Served,
)
from omaha_mirror.fleet.recorder import FleetRecorder

__all__ = [
    "FETCHED",
    "BadDatabaseURL",
    "BoundedQueue",
    "Cause",
    "Census",
    "CheckIn",
    "Database",
    "DecisionRun",
    "Event",
    "EventReport",
    "FleetReader",
    "FleetRecorder",
    "FleetUnavailable",
    "History",
    "Machine",
    "MachineEvent",
    "MachineQuery",
    "Page",
    "Served",
    "State",
    "Transfer",
    "cause_of",
    "explain",
    "facts_of",
]
