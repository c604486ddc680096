"""Which domains there are: what each needs, its activities, its endpoints, and in which process each one lives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiocache.base import BaseCache
from starlette.routing import Route

from activities.auth import endpoints as auth_endpoints
from activities.auth.activities import Auth
from activities.auth.revocations import CachedRevocations
from activities.auth.service import AuthService
from activities.tenants import endpoints as tenants_endpoints
from activities.tenants.activities import Tenants
from activities.tenants.service import TenantsService
from activities.users import endpoints as users_endpoints
from activities.users.activities import Users
from activities.users.service import UsersService
from contracts.calls import CallSigner
from contracts.passwords import Passwords
from contracts.temporal import TaskQueue
from workflows.log_in import LogIn
from workflows.switch_tenant import SwitchTenant

WORKFLOWS: tuple[type, ...] = (LogIn, SwitchTenant)
"""One a kind of operation."""


@dataclass(frozen=True)
class Parts:
    """What services are made of; opened and closed by whoever runs them."""

    passwords: Passwords
    cache: BaseCache
    signer: CallSigner


@dataclass(frozen=True)
class Domain:
    """What one task queue serves, and the endpoints beside it."""

    queue: TaskQueue
    workflows: tuple[type, ...] = ()
    activities: tuple[Callable[..., object], ...] = ()
    routes: tuple[Route, ...] = ()


def auth(parts: Parts) -> Domain:
    service = AuthService(parts.passwords, CachedRevocations(parts.cache))
    return Domain(
        TaskQueue.AUTH,
        activities=activities_of(Auth(service)),
        routes=tuple(auth_endpoints.routes(service, parts.signer)),
    )


def users(parts: Parts) -> Domain:
    service = UsersService()
    return Domain(
        TaskQueue.USERS,
        activities=activities_of(Users(service)),
        routes=tuple(users_endpoints.routes(service, parts.signer)),
    )


def tenants(parts: Parts) -> Domain:
    service = TenantsService()
    return Domain(
        TaskQueue.TENANTS,
        activities=activities_of(Tenants(service)),
        routes=tuple(tenants_endpoints.routes(service, parts.signer)),
    )


def operations(_parts: Parts) -> Domain:
    return Domain(TaskQueue.OPERATIONS, workflows=WORKFLOWS)


PROCESSES: dict[str, tuple[Callable[[Parts], Domain], ...]] = {
    "auth": (auth,),
    "users": (users,),
    "tenants": (tenants,),
    "files": (),
    "operations": (operations,),
    "all": (auth, users, tenants, operations),
}
"""By the name that ``python -m worker`` is given."""


def domains_of(process: str, parts: Parts) -> tuple[Domain, ...]:
    return tuple(domain(parts) for domain in PROCESSES[process])


def routes_of(domains: Iterable[Domain]) -> list[Route]:
    return [route for domain in domains for route in domain.routes]


def activities_of(instance: object) -> tuple[Callable[..., object], ...]:
    """The methods that ``@activity.defn`` marked."""
    return tuple(
        method
        for _, method in inspect.getmembers(instance, inspect.ismethod)
        if hasattr(method, "__temporal_activity_definition")
    )
