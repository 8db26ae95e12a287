"""Policy: what a machine is told, and why. One pure function over values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from omaha_mirror.catalog.model import BOARDS, Known, Release, Rule, needed_packages
from omaha_mirror.catalog.reasons import WORDS, Reason
from omaha_mirror.omaha import AppRequest, BadVersion, Version


@dataclass(frozen=True, slots=True)
class Decision:
    """What a machine is told. `release` is what it is offered, None for `noupdate`."""

    reason: Reason
    release: Release | None = None
    detail: str = ""

    @property
    def words(self) -> str:
        """The reason as a sentence for people."""
        return f"{WORDS[self.reason]}: {self.detail}" if self.detail else WORDS[self.reason]


def decide(
    app: AppRequest,
    rule: Rule,
    known: Known | None,
    *,
    app_ids: Collection[str],
    boards: Collection[str] = BOARDS,
) -> Decision:
    """Decide what to tell a machine; whatever it is, it is no error at the machine.

    Nothing at the machine stops a downgrade or a reinstall: update_engine does not compare the offered version with
    its own (update_engine/omaha_request_action.cc:344). So it is stopped here.

    Args:
        app: the machine's question.
        rule: of the machine's track.
        known: what the catalog knows of the rule's version for this app and board; None for nothing.
        app_ids: the applications that this mirror answers for.
        boards: the boards that there can be releases for.
    """
    if app.app_id not in app_ids:
        return Decision(Reason.UNKNOWN_APP)
    if rule.version is None:
        return Decision(Reason.HELD)
    if app.board not in boards:
        return Decision(Reason.UNKNOWN_BOARD)
    try:
        has, target = Version.parse(app.version), Version.parse(rule.version)
    except BadVersion as error:
        return Decision(Reason.VERSION_UNREADABLE, detail=str(error))
    if has == target:
        return Decision(Reason.UP_TO_DATE)
    if has > target and not rule.allow_downgrade:
        return Decision(Reason.NEWER)
    return _offer(app, rule, known or Known())


def _offer(app: AppRequest, rule: Rule, known: Known) -> Decision:
    if known.release is None:
        return Decision(known.reason, detail=known.detail)
    needed = needed_packages(rule, app.oem)
    if unasked := needed - known.looked_up:
        return Decision(Reason.WARMING, detail=", ".join(sorted(unasked)))
    lacking = {name: known.lacking[name] for name in needed if name in known.lacking}
    for name in rule.packages:
        if known.release.file(name) is None:
            lacking.setdefault(name, "upstream has no such file")
    if lacking:
        detail = "; ".join(f"{name}: {why}" for name, why in sorted(lacking.items()))
        return Decision(Reason.INCOMPLETE, detail=detail)
    return Decision(Reason.OFFERED, known.release)
