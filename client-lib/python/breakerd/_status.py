"""The HTTP status that an exception or a response carries, whatever library it comes from."""

from __future__ import annotations

import inspect
from typing import Any, Mapping, Optional


def status_of(subject: Any) -> Optional[int]:
    """The status of its own, or its response's."""
    response = attribute(subject, "response")
    if isinstance(response, Mapping):  # botocore's ClientError
        metadata = response.get("ResponseMetadata")
        found = metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
        return found if isinstance(found, int) else None
    for carrier in (subject, response):
        for name in ("status_code", "status", "http_status", "code"):
            value = _plain(carrier, name) if name == "code" else attribute(carrier, name)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= int(value) <= 599:
                return int(value)
    return None


def code_of(error: Exception) -> str:
    """The provider's own word for the error, such as ``invalid_api_key``, where it is one word and no sentence."""
    for name in ("code", "type"):
        value = _plain(error, name)
        if isinstance(value, str) and is_word(value):
            return value
    response = attribute(error, "response")
    if isinstance(response, Mapping):
        inner = response.get("Error")
        code = inner.get("Code") if isinstance(inner, Mapping) else None
        return code if isinstance(code, str) and is_word(code) else ""
    return ""


def is_word(text: str) -> bool:
    """Whether it is an identifier: what a person wrote may hold what no log should."""
    return text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()


def attribute(subject: Any, name: str) -> Any:
    """An attribute, or ``None`` where there is none or an SDK's property raises."""
    try:
        return getattr(subject, name, None)
    except Exception:
        return None


def _plain(subject: Any, name: str) -> Any:
    """An attribute that is none of a property's making: aiohttp's ``code`` warns of its end."""
    return inspect.getattr_static(subject, name, None)


def root(kind: type) -> str:
    """The package that a class comes from."""
    return str(kind.__module__).partition(".")[0]
