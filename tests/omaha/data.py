"""The recorded messages, and strategies that make more of them."""

from pathlib import Path

from hypothesis import strategies as st

from omaha_mirror.omaha import (
    Action,
    AppResponse,
    DayStart,
    Digest,
    Element,
    EventResponse,
    Manifest,
    Package,
    PingResponse,
    Response,
    UpdateCheck,
    Url,
)

CODEBASE = "https://upstream.example/3815.2.1/"
DIRECTORY = Path(__file__).parent.parent / "data" / "omaha"


def read(name: str) -> bytes:
    return (DIRECTORY / f"{name}.xml").read_bytes()


def names(pattern: str) -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob(f"{pattern}.xml"))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(
    lambda text: not any(c in "\ufffe\uffff" or (c < " " and c not in "\t\n\r") for c in text)
)
unknown_names = st.from_regex(r"x-[a-z0-9]{1,6}", fullmatch=True)
extras = st.dictionaries(unknown_names, texts, max_size=2).map(lambda found: tuple(found.items()))
elements = st.recursive(
    st.builds(Element, unknown_names, extras, texts),
    lambda inner: st.builds(
        Element, unknown_names, extras, st.just(""), st.lists(inner, max_size=2).map(tuple)
    ),
    max_leaves=3,
)
extra_elements = st.lists(elements, max_size=2).map(tuple)
numbers = st.none() | st.integers(-(10**17), 10**17)
flags = st.none() | st.booleans()
sha1s = st.none() | st.binary(min_size=20, max_size=20).map(lambda raw: Digest("sha1", raw))
sha256s = st.none() | st.binary(min_size=32, max_size=32).map(lambda raw: Digest("sha256", raw))
unknown = {"extra": extras, "extra_elements": extra_elements}

packages = st.builds(
    Package,
    name=texts,
    hash=sha1s,
    hash_sha256=sha256s,
    size=numbers,
    required=flags,
    **unknown,
)
actions = st.builds(
    Action,
    event=st.sampled_from(["postinstall", "install", "later"]),
    sha256=sha256s,
    display_version=texts,
    chrome_os_version=texts,
    needsadmin=flags,
    is_delta_payload=flags,
    is_delta=flags,
    disable_payload_backoff=flags,
    max_failure_count_per_url=numbers,
    metadata_signature_rsa=texts,
    metadata_size=texts,
    deadline=texts,
    more_info=texts,
    prompt=flags,
    **unknown,
)
manifests = st.builds(
    Manifest,
    version=texts,
    is_floor=flags,
    floor_reason=texts,
    is_target=flags,
    packages=st.lists(packages, max_size=3).map(tuple),
    actions=st.lists(actions, max_size=3).map(tuple),
    **unknown,
)
update_checks = st.builds(
    UpdateCheck,
    status=texts,
    poll_interval=numbers,
    urls=st.lists(st.builds(Url, codebase=texts | st.just(CODEBASE), **unknown), max_size=2).map(
        tuple
    ),
    manifests=st.lists(manifests, max_size=2).map(tuple),
    **unknown,
)
app_responses = st.builds(
    AppResponse,
    appid=texts,
    status=texts,
    ping=st.none() | st.builds(PingResponse, status=texts, **unknown),
    update_check=st.none() | update_checks,
    events=st.lists(st.builds(EventResponse, status=texts, **unknown), max_size=2).map(tuple),
    **unknown,
)
responses = st.builds(
    Response,
    server=texts,
    daystart=st.none()
    | st.builds(DayStart, elapsed_seconds=numbers, elapsed_days=numbers, **unknown),
    apps=st.lists(app_responses, max_size=2).map(tuple),
    **unknown,
)
