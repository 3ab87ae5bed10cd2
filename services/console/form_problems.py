"""Why what a form asked for was not done: in words, at the field at fault, and never with what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, Self

from services.console.apis import ApiError
from services.console.credential_words import provider_name
from services.console.words import Trouble, trouble

_FIELDS = {"api_key": "The key", "label": "The label", "scope.id": "Whose key it is to be"}


class Problem(NamedTuple):
    """What is wrong; ``field`` is the one at fault, where it is one of the form."""

    says: Trouble
    status: int = HTTPStatus.UNPROCESSABLE_ENTITY
    field: str | None = None
    sure_of: str | None = None
    """Whose key it seems to be, where one has to say that it is right nevertheless."""

    @classmethod
    def of(cls, error: ApiError) -> Self:
        """What a service refused. Raises the error where no change of the form helps."""
        if error.status == HTTPStatus.UNAUTHORIZED or error.is_away:
            raise error
        says = trouble(error.status, error.code, error.service)
        if error.code == "invalid_request" and error.field in _FIELDS:
            # So a service says what is wrong with a value; it never repeats one.
            says = Trouble(f"{_FIELDS[error.field]} cannot be used", f"It {error.errors[0].get('detail', '')}.")
        return cls(says, error.status, error.field)

    @classmethod
    def missing(cls, field: str, words: str) -> Self:
        """A field is empty; ``words`` ask for it."""
        return cls(Trouble(words, "Nothing was saved."), field=field)

    @classmethod
    def question(cls, others: Sequence[str], provider: str) -> Self:
        """Whether a key that looks like one of ``others`` is meant to be the provider's. It is pasted again with the
        answer, for it is kept nowhere meanwhile."""
        names = " or ".join(map(provider_name, others))
        asked = f"This looks like a key of {names}. Save it for {provider_name(provider)} nevertheless?"
        return cls(
            Trouble(asked, "If so, paste it again, and tick that it is right. Nothing was saved, and it was not kept."),
            field="api_key",
            sure_of=names,
        )
