"""Organizations on the wire of v3alpha."""

from __future__ import annotations

import enum
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import msgspec

from schema_user import queries
from schema_user.api.body import refused
from schema_user.api.details import DetailsView, View, details
from schema_user.api.operation import Answer, Call, EmptyBody, operation
from schema_user.api.v3alpha.contact_bodies import Body
from schema_user.api.v3alpha.search_bodies import (
    OrganizationQueryBody,
    SearchBody,
    SearchDetails,
    page_of,
    query_of,
    search_details,
)
from schema_user.api.v3alpha.text_bodies import (
    SenderBody,
    SenderView,
    TextsBody,
    TextsView,
    sender_of,
    sender_view,
    texts_of,
    texts_view,
)
from schema_user.commands import organizations
from schema_user.commands.organizations import OrganizationTarget, SavedOrganization
from schema_user.domain.duration import parse_duration
from schema_user.domain.organization import OrganizationSettings
from schema_user.domain.password import MAX_LENGTH, OwnPolicy
from schema_user.domain.rate import RATE_RULE, OwnRates, Rate, parse_rate
from schema_user.domain.wording import Language
from schema_user.errors import Violation

if TYPE_CHECKING:
    from datetime import timedelta

    from litestar.handlers import HTTPRouteHandler

    from schema_user.domain.organization import Organization

_PATH = "/v3alpha/organizations"
_ONE = _PATH + "/{organization_id:str}"
_TAG = "Organizations"
_CHECKS = {"validateOnly": "true: check everything, store nothing."}
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.-]+$")]
_Region = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]
_Cap = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
_Rate = Annotated[str, msgspec.Meta(max_length=23, description="Requests in a span, such as 600/1m.")]
_Duration = Annotated[str, msgspec.Meta(max_length=12, description="Such as 90s, 10m or 1h.")]


class CreateOrganizationBody(Body, kw_only=True):
    """A new organization."""

    name: _Name
    organization_id: _Name | None = None


class RateLimitsBody(Body, kw_only=True):
    """How many requests are taken in a span; absent: as the instance has it."""

    per_token: _Rate | None = None
    per_organization: _Rate | None = None


class PasswordPolicyBody(Body, kw_only=True):
    """What new passwords must have; absent: as the instance has it."""

    min_length: Annotated[int, msgspec.Meta(ge=1, le=MAX_LENGTH)] | None = None
    has_lowercase: bool | None = None
    has_uppercase: bool | None = None
    has_number: bool | None = None
    has_symbol: bool | None = None


class SettingsBody(Body, kw_only=True):
    """What the organization chooses for itself; absent: as the instance has it."""

    url_template_hosts: Annotated[list[_Host], msgspec.Meta(max_length=100)] | None = None
    default_phone_region: _Region | None = None
    email_code_ttl: _Duration | None = None
    phone_code_ttl: _Duration | None = None
    phone_countries: Annotated[list[_Region], msgspec.Meta(max_length=250)] | None = None
    code_length: Annotated[int, msgspec.Meta(ge=6, le=20)] | None = None
    code_attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] | None = None
    resend_after: _Duration | None = None
    resends_per_day: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    codes_per_address: _Cap | None = None
    codes_per_organization: _Cap | None = None
    codes_per_phone_prefix: _Cap | None = None
    rate_limits: RateLimitsBody | None = None
    sender: SenderBody | None = None
    languages: Annotated[list[Language], msgspec.Meta(max_length=len(Language))] | None = None
    texts: TextsBody | None = None
    password_policy: PasswordPolicyBody | None = None


class UpdateOrganizationBody(Body, kw_only=True):
    """What shall change; ``settings`` replaces all of them."""

    name: _Name | None = None
    settings: SettingsBody | None = None


class OrganizationSortingColumn(enum.StrEnum):
    """What organizations can be sorted by."""

    UNSPECIFIED = "FIELD_NAME_UNSPECIFIED"
    ID = "FIELD_NAME_ID"
    NAME = "FIELD_NAME_NAME"
    CREATION_DATE = "FIELD_NAME_CREATION_DATE"
    CHANGE_DATE = "FIELD_NAME_CHANGE_DATE"


class SearchOrganizationsBody(SearchBody, kw_only=True):
    """A search over organizations; several queries must all hold."""

    sorting_column: OrganizationSortingColumn = OrganizationSortingColumn.UNSPECIFIED
    queries: list[OrganizationQueryBody] = []


class SavedOrganizationView(View, kw_only=True):
    """What a change of an organization answers."""

    organization_id: str
    details: DetailsView


class RateLimitsView(View, kw_only=True):
    """How many requests are taken in a span."""

    per_token: str | None = None
    per_organization: str | None = None


class PasswordPolicyView(View, kw_only=True):
    """What the organization asks of new passwords."""

    min_length: int | None = None
    has_lowercase: bool | None = None
    has_uppercase: bool | None = None
    has_number: bool | None = None
    has_symbol: bool | None = None


class SettingsView(View, kw_only=True):
    """What the organization chose for itself."""

    url_template_hosts: list[str] | None = None
    default_phone_region: str | None = None
    email_code_ttl: str | None = None
    phone_code_ttl: str | None = None
    phone_countries: list[str] | None = None
    code_length: int | None = None
    code_attempts: int | None = None
    resend_after: str | None = None
    resends_per_day: int | None = None
    codes_per_address: int | None = None
    codes_per_organization: int | None = None
    codes_per_phone_prefix: int | None = None
    rate_limits: RateLimitsView | None = None
    sender: SenderView | None = None
    languages: list[str] | None = None
    texts: TextsView | None = None
    password_policy: PasswordPolicyView | None = None


class OrganizationView(View, kw_only=True):
    """An organization."""

    organization_id: str
    details: DetailsView
    name: str
    state: str
    settings: SettingsView


class GotOrganizationView(View, kw_only=True):
    """One organization."""

    organization: OrganizationView


class FoundOrganizationsView(View, kw_only=True):
    """One page of organizations."""

    details: SearchDetails
    sorting_column: OrganizationSortingColumn
    result: list[OrganizationView]
    next_page_token: str | None = None


def _span_view(span: timedelta | None) -> str | None:
    return None if span is None else f"{int(span.total_seconds())}s"


def _rates_view(own: OwnRates | None) -> RateLimitsView | None:
    if own is None:
        return None
    return RateLimitsView(
        per_token=None if own.per_token is None else str(own.per_token),
        per_organization=None if own.per_organization is None else str(own.per_organization),
    )


def _view(organization: Organization, *, with_texts: bool = True) -> OrganizationView:
    own = organization.settings
    return OrganizationView(
        organization_id=organization.organization_id,
        details=details(organization, organization.organization_id),
        name=organization.name,
        state="ORGANIZATION_STATE_ACTIVE" if organization.active else "ORGANIZATION_STATE_INACTIVE",
        settings=SettingsView(
            url_template_hosts=None if own.url_template_hosts is None else list(own.url_template_hosts),
            default_phone_region=own.default_phone_region,
            email_code_ttl=_span_view(own.email_code_ttl),
            phone_code_ttl=_span_view(own.phone_code_ttl),
            phone_countries=None if own.phone_countries is None else list(own.phone_countries),
            code_length=own.code_length,
            code_attempts=own.code_attempts,
            resend_after=_span_view(own.resend_after),
            resends_per_day=own.resends_per_day,
            codes_per_address=own.codes_per_address,
            codes_per_organization=own.codes_per_organization,
            codes_per_phone_prefix=own.codes_per_phone_prefix,
            rate_limits=_rates_view(own.rate_limits),
            sender=sender_view(own.sender),
            languages=None if own.languages is None else list(own.languages),
            texts=texts_view(own.texts) if with_texts else None,
            password_policy=None if own.password_policy is None else PasswordPolicyView(**asdict(own.password_policy)),
        ),
    )


def _saved(saved: SavedOrganization) -> Answer:
    organization = saved.organization
    owner = organization.organization_id
    view = SavedOrganizationView(organization_id=owner, details=details(organization, owner))
    return Answer(view, organization.sequence, replayed=saved.replayed)


def _settings(body: SettingsBody) -> OrganizationSettings:
    found: list[Violation] = []

    def span(name: str, text: str | None) -> timedelta | None:
        if text is None:
            return None
        try:
            parsed = parse_duration(text)
        except ValueError:
            parsed = None
        if parsed is None or parsed.total_seconds() < 1:
            found.append(
                Violation(f"settings/{name}", "must be a duration of 1s at least, such as 90s, 10m or 1h", "format")
            )
        return parsed

    made = OrganizationSettings(
        url_template_hosts=None
        if body.url_template_hosts is None
        else tuple(h.lower() for h in body.url_template_hosts),
        default_phone_region=body.default_phone_region,
        email_code_ttl=span("emailCodeTtl", body.email_code_ttl),
        phone_code_ttl=span("phoneCodeTtl", body.phone_code_ttl),
        phone_countries=None if body.phone_countries is None else tuple(body.phone_countries),
        code_length=body.code_length,
        code_attempts=body.code_attempts,
        resend_after=span("resendAfter", body.resend_after),
        resends_per_day=body.resends_per_day,
        codes_per_address=body.codes_per_address,
        codes_per_organization=body.codes_per_organization,
        codes_per_phone_prefix=body.codes_per_phone_prefix,
        rate_limits=_rates(body.rate_limits, found),
        sender=sender_of(body.sender, found),
        languages=None if body.languages is None else tuple(body.languages),
        texts=texts_of(body.texts),
        password_policy=None
        if body.password_policy is None
        else OwnPolicy(**msgspec.structs.asdict(body.password_policy)),
    )
    if found:
        raise refused(found)
    return made


def _rates(body: RateLimitsBody | None, found: list[Violation]) -> OwnRates | None:
    if body is None:
        return None

    def rate(name: str, text: str | None) -> Rate | None:
        try:
            return None if text is None else parse_rate(text)
        except ValueError:
            found.append(Violation(f"settings/rateLimits/{name}", f"must be {RATE_RULE}", "format"))
            return None

    return OwnRates(rate("perToken", body.per_token), rate("perOrganization", body.per_organization))


def _target(call: Call) -> OrganizationTarget:
    return OrganizationTarget(
        call.caller, call.path["organization_id"], call.expected_sequence, call.validate_only, call.once
    )


@operation(
    "POST",
    _PATH,
    summary="Create an organization",
    tag=_TAG,
    permission="INSTANCE_OWNER",
    body=CreateOrganizationBody,
    view=SavedOrganizationView,
    status=201,
    keyed=True,
    query=_CHECKS,
    faults=(409,),
    example={"name": "Mouse & Co", "organizationId": "mouse-co"},
)
async def create_organization(call: Call, body: CreateOrganizationBody) -> Answer:
    """Create an organization. Without `organizationId` the service makes one."""
    command = organizations.CreateOrganization(body.name, body.organization_id)
    return _saved(
        await organizations.create_organization(
            call.wiring, call.caller, command, validate_only=call.validate_only, once=call.once
        )
    )


@operation(
    "GET",
    _ONE,
    summary="Get an organization",
    tag=_TAG,
    permission="org.read",
    view=GotOrganizationView,
    faults=(404,),
    conditional=True,
)
async def get_organization(call: Call) -> Answer:
    """Give an organization and its settings."""
    found = await queries.get_organization(call.wiring, call.caller, call.path["organization_id"])
    return Answer(GotOrganizationView(organization=_view(found)), found.sequence)


@operation(
    "PUT",
    _ONE,
    summary="Update an organization",
    tag=_TAG,
    permission="org.write",
    body=UpdateOrganizationBody,
    view=SavedOrganizationView,
    query=_CHECKS,
    faults=(404, 409, 412),
    conditional=True,
    keyed=True,
    example={"settings": {"urlTemplateHosts": ["app.example.com"], "defaultPhoneRegion": "CH", "emailCodeTtl": "30m"}},
)
async def update_organization(call: Call, body: UpdateOrganizationBody) -> Answer:
    """Change an organization's name or settings; settings are replaced as a whole."""
    settings = None if body.settings is None else _settings(body.settings)
    command = organizations.UpdateOrganization(body.name, settings)
    return _saved(await organizations.update_organization(call.wiring, _target(call), command))


def _state_route(word: str, summary: str, *, active: bool) -> HTTPRouteHandler:
    async def set_state(call: Call, _body: EmptyBody) -> Answer:
        return _saved(await organizations.set_organization_state(call.wiring, _target(call), active=active))

    set_state.__name__, set_state.__doc__ = f"{word}_organization", f"{summary}; a wrong state is refused."
    return operation(
        "POST",
        f"{_ONE}/{word}",
        summary=summary,
        tag=_TAG,
        permission="org.write",
        body=EmptyBody,
        view=SavedOrganizationView,
        faults=(404, 409, 412),
        conditional=True,
        keyed=True,
        optional_body=True,
    )(set_state)


@operation(
    "DELETE",
    _ONE,
    summary="Delete an organization",
    tag=_TAG,
    permission="INSTANCE_OWNER",
    view=SavedOrganizationView,
    faults=(404, 409, 412),
    conditional=True,
)
async def delete_organization(call: Call) -> Answer:
    """Delete an organization that has neither users nor user schemas."""
    return _saved(await organizations.delete_organization(call.wiring, _target(call)))


@operation(
    "POST",
    _PATH + "/search",
    summary="Search organizations",
    tag=_TAG,
    permission="org.read",
    body=SearchOrganizationsBody,
    view=FoundOrganizationsView,
    optional_body=True,
    example={"queries": [{"nameQuery": {"name": "mouse", "method": "TEXT_QUERY_METHOD_CONTAINS_IGNORE_CASE"}}]},
)
async def search_organizations(call: Call, body: SearchOrganizationsBody) -> Answer:
    """Search the organizations where the caller holds `org.read`; their `texts` are left out."""
    column = body.sorting_column
    if column is OrganizationSortingColumn.UNSPECIFIED:
        column = OrganizationSortingColumn.ID
    page = page_of(body, column.removeprefix("FIELD_NAME_").lower())
    found = await queries.search_organizations(call.wiring, call.caller, query_of(body.queries), page)
    view = FoundOrganizationsView(
        details=search_details(found.total, call.wiring.now(), is_estimate=found.is_estimate),
        sorting_column=column,
        result=[_view(each, with_texts=False) for each in found.items],  # they are long, and a page has many
        next_page_token=found.next_token,
    )
    return Answer(view)


ROUTES: list[HTTPRouteHandler] = [
    create_organization,
    get_organization,
    update_organization,
    _state_route("deactivate", "Deactivate an organization", active=False),
    _state_route("reactivate", "Reactivate an organization", active=True),
    delete_organization,
    search_organizations,
]
