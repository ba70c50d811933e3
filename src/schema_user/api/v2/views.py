"""What the operations for people answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema_user.api.details import DetailsView, View, details, rfc3339
from schema_user.api.v2.search import HumanSortingColumn
from schema_user.api.v3alpha.search_bodies import SearchDetails
from schema_user.api.v3alpha.users import ChangedView
from schema_user.domain.credential import Credential
from schema_user.human import profile_of

if TYPE_CHECKING:
    from schema_user.domain.user import User


class HumanProfileView(View, kw_only=True):
    """What a person is called; what the caller may not read is absent."""

    given_name: str | None = None
    family_name: str | None = None
    nick_name: str | None = None
    display_name: str | None = None
    preferred_language: str | None = None
    gender: str | None = None


class HumanEmailView(View, kw_only=True):
    """An email address."""

    email: str
    is_verified: bool


class HumanPhoneView(View, kw_only=True):
    """A phone number, as E.164."""

    phone: str
    is_verified: bool


class HumanView(View, kw_only=True):
    """What is known of a person."""

    profile: HumanProfileView
    email: HumanEmailView | None = None
    phone: HumanPhoneView | None = None
    password_change_required: bool | None = None
    password_changed: str | None = None


class HumanUserView(View, kw_only=True):
    """A user who is a person."""

    user_id: str
    details: DetailsView
    state: str
    username: str | None = None
    login_names: list[str] | None = None
    preferred_login_name: str | None = None
    human: HumanView


class GotHumanView(View, kw_only=True):
    """One person."""

    details: DetailsView
    user: HumanUserView


class ListedHumansView(View, kw_only=True):
    """One page of people."""

    details: SearchDetails
    sorting_column: HumanSortingColumn
    result: list[HumanUserView]


class CreatedHumanView(ChangedView, kw_only=True):
    """A person that was made."""

    user_id: str


def human_view(user: User) -> HumanUserView:
    """Write a person down."""
    profile = profile_of(user)
    email, phone, credential = user.contact.email, user.contact.phone, user.credential or Credential()
    return HumanUserView(
        user_id=user.user_id,
        details=details(user, user.organization_id),
        state=user.state.value,
        username=user.username,
        login_names=None if user.username is None else [user.username],
        preferred_login_name=user.username,
        human=HumanView(
            profile=HumanProfileView(
                given_name=profile.get("givenName"),
                family_name=profile.get("familyName"),
                nick_name=profile.get("nickName"),
                display_name=profile.get("displayName"),
                preferred_language=profile.get("preferredLanguage"),
                gender=profile.get("gender"),
            ),
            email=None if email is None else HumanEmailView(email=email.value, is_verified=email.is_verified),
            phone=None if phone is None else HumanPhoneView(phone=phone.value, is_verified=phone.is_verified),
            password_change_required=credential.change_required or None,
            password_changed=None if credential.set_at is None else rfc3339(credential.set_at),
        ),
    )
