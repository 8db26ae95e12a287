"""Replaces the codebases of a response by this site's."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from omaha_mirror.omaha.errors import BadValue
from omaha_mirror.omaha.protocol import Action, AppResponse, Manifest, Response, Url
from omaha_mirror.omaha.xml import Attributes

CodebaseFor = Callable[[AppResponse, Manifest], str]


def localise(response: Response, codebase_for: CodebaseFor, *, fallback: bool = False) -> Response:
    """Make a response lead to this site's packages: exactly two changes.

    The urls of each update become one, the first with another codebase; and each postinstall
    action says `DisablePayloadBackoff="true"`, without which one failure costs a machine a day
    (update_engine payload_state.cc:253). All the rest stays, unknown attributes included.

    Args:
        response: Any response.
        codebase_for: Gives the codebase for an app and its first manifest; it must always be the same,
            or update_engine resets its failure counts (payload_state.cc:325).
        fallback: Keep the first url, as it was, as the second one, if every client can read it.
            It is never the first: ue-rs knows only that one (ue-rs src/download/mod.rs:156).

    Raises:
        BadValue: If a codebase is not absolute, does not end in `/`, or has a query or fragment.
    """
    return replace(response, apps=tuple(_app(a, codebase_for, fallback) for a in response.apps))


def codebase_problem(codebase: str) -> str | None:
    """Why update_engine and ue-rs would not make the same package URL from it; `None` if they would.

    update_engine appends `/` and the name (omaha_request_action.cc:524), ue-rs resolves the name
    against it (ue-rs src/download/mod.rs:156).
    """
    try:
        parts = urlsplit(codebase)
        host = parts.hostname
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not host:
        return "is not an absolute http or https URL"
    if "?" in codebase or "#" in codebase:
        return "has a query or a fragment"
    if not codebase.endswith("/"):
        return "does not end in /"
    return None


def _app(app: AppResponse, codebase_for: CodebaseFor, fallback: bool) -> AppResponse:
    check = app.update_check
    if check is None or check.manifest is None:
        return app
    codebase = codebase_for(app, check.manifest)
    if problem := codebase_problem(codebase):
        raise BadValue(f"the codebase {codebase[:200]!r} {problem}")
    url = check.urls[0] if check.urls else Url()
    here = replace(url, codebase=codebase, extra=_without(url.extra, "codebase"))
    both = fallback and codebase_problem(url.codebase) is None
    manifests = tuple(
        replace(manifest, actions=tuple(map(_action, manifest.actions)))
        for manifest in check.manifests
    )
    localised = replace(check, urls=(here, url) if both else (here,), manifests=manifests)
    return replace(app, update_check=localised)


def _action(action: Action) -> Action:
    if action.event != "postinstall":
        return action
    extra = _without(action.extra, "DisablePayloadBackoff")
    return replace(action, disable_payload_backoff=True, extra=extra)


def _without(extra: Attributes, name: str) -> Attributes:
    return tuple(pair for pair in extra if pair[0] != name)
