"""The domains of the product: their workflows, activities, endpoints and background tasks, and the process of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta

from starlette.routing import Route
from temporalio.client import Client

from activities.auth import endpoints as auth_endpoints
from activities.auth.activities import Auth
from activities.auth.credentials import CredentialsService
from activities.auth.revocations import CacheRevocationPublisher
from activities.auth.sessions import SESSION_IDLE_TIMEOUT, SessionsService
from activities.auth.totp_encryption import PLAINTEXT, SecretCipher, SecretReencryption
from activities.files import endpoints as files_endpoints
from activities.files.activities import Files
from activities.files.cleanup import FileCleanup
from activities.files.processing import ProcessingService
from activities.files.service import FilesService
from activities.files.uploading import UploadingService
from activities.notifications.activities import Notifications
from activities.notifications.mailer import DEFAULT_SENDER, Mailer
from activities.notifications.service import NotificationsService
from activities.operations import endpoints as operations_endpoints
from activities.operations.activities import Operations
from activities.operations.record_repair import RECORD_RETENTION, RecordRepair
from activities.operations.service import OperationsService
from activities.tenants import endpoints as tenants_endpoints
from activities.tenants.activities import Tenants
from activities.tenants.service import TenantsService
from activities.users import endpoints as users_endpoints
from activities.users.activities import Users
from activities.users.service import UsersService
from activities.workspaces import endpoints as workspaces_endpoints
from activities.workspaces.activities import Workspaces
from activities.workspaces.service import WorkspacesService
from contracts.task_queues import TaskQueue
from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.passwords import Passwords
from infrastructure.record_buffer import RecordBuffer
from infrastructure.redis_policy import RedisPolicy
from infrastructure.settings_validation import DEVELOPMENT_APP_URL
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage
from worker.metrics import CountOpen
from worker.progress_notifier import StateListener
from worker.repair_scheduler import REPAIR_DEADLINE, RepairScheduler
from worker.state_recording import StateRecorder
from workflows.log_in import LogIn
from workflows.onboard_user import OnboardUser
from workflows.process_file import ProcessFile
from workflows.repair_operation import RepairOperation
from workflows.switch_tenant import SwitchTenant
from workflows.upload_file import UploadFile

WORKFLOWS: tuple[type, ...] = (LogIn, SwitchTenant, UploadFile, ProcessFile, OnboardUser)
"""The workflows of operations, one per kind."""


@dataclass(frozen=True)
class WorkerDependencies:
    """The connections and clients that the services use; their creator opens and closes them."""

    temporal: Client
    passwords: Passwords
    cache: Cache
    change_notifier: ChangeNotifier
    service_keys: SecretKeys
    storage: FileStorage
    transfer_token_signer: TransferTokenSigner
    mailer: Mailer
    mail_sender: str = DEFAULT_SENDER
    redis: RedisPolicy | None = None
    """None without Redis."""
    app_url: str = DEVELOPMENT_APP_URL
    """The address of the product's web page, for links in e-mail."""
    repair_deadline: timedelta = REPAIR_DEADLINE
    record_retention: timedelta = RECORD_RETENTION
    cipher: SecretCipher = PLAINTEXT
    session_idle: timedelta = SESSION_IDLE_TIMEOUT

    def signer(self, service: str) -> ServiceTokenSigner:
        """Return the signer that verifies the tokens of calls to the service."""
        return ServiceTokenSigner(service, self.service_keys)


@dataclass(frozen=True)
class Domain:
    """The workflows and activities of one task queue, and the endpoints and background tasks of the same domain."""

    queue: TaskQueue
    workflows: tuple[type, ...] = ()
    activities: tuple[Callable[..., object], ...] = ()
    routes: tuple[Route, ...] = ()
    background_tasks: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()
    """Coroutine functions that run until they are cancelled."""
    state_listener: StateListener | None = None
    """Receives each new state of the operations that run on this queue."""
    count_open: CountOpen | None = None


def auth(dependencies: WorkerDependencies) -> Domain:
    revocations = CacheRevocationPublisher(dependencies.cache, dependencies.change_notifier)
    sessions = SessionsService(
        revocations, memberships=TenantsService(dependencies.change_notifier), idle_timeout=dependencies.session_idle
    )
    credentials = CredentialsService(dependencies.passwords, revocations, cipher=dependencies.cipher)
    return Domain(
        TaskQueue.AUTH,
        activities=activities_of(Auth(sessions, credentials)),
        routes=tuple(auth_endpoints.routes(sessions, credentials, dependencies.signer("auth"))),
        background_tasks=(SecretReencryption(dependencies.cipher).run, revocations.retry_regularly),
    )


def users(dependencies: WorkerDependencies) -> Domain:
    service = UsersService()
    return Domain(
        TaskQueue.USERS,
        activities=activities_of(Users(service)),
        routes=tuple(users_endpoints.routes(service, dependencies.signer("users"))),
    )


def tenants(dependencies: WorkerDependencies) -> Domain:
    service = TenantsService(dependencies.change_notifier)
    return Domain(
        TaskQueue.TENANTS,
        activities=activities_of(Tenants(service)),
        routes=tuple(tenants_endpoints.routes(service, dependencies.signer("tenants"))),
    )


def files(dependencies: WorkerDependencies) -> Domain:
    service = FilesService(dependencies.transfer_token_signer)
    return Domain(
        TaskQueue.FILES,
        activities=activities_of(
            Files(UploadingService(dependencies.storage), ProcessingService(dependencies.storage))
        ),
        routes=tuple(files_endpoints.routes(service, dependencies.signer("files"))),
        background_tasks=(FileCleanup(dependencies.storage).run,),
    )


def workspaces(dependencies: WorkerDependencies) -> Domain:
    service = WorkspacesService()
    return Domain(
        TaskQueue.WORKSPACES,
        activities=activities_of(Workspaces(service)),
        routes=tuple(workspaces_endpoints.routes(service, dependencies.signer("workspaces"))),
    )


def notifications(dependencies: WorkerDependencies) -> Domain:
    service = NotificationsService(dependencies.mailer, dependencies.mail_sender, dependencies.app_url)
    return Domain(TaskQueue.NOTIFICATIONS, activities=activities_of(Notifications(service)))


def operations(dependencies: WorkerDependencies) -> Domain:
    service = OperationsService()
    records = RecordBuffer(service.write)
    repair = RecordRepair(
        dependencies.temporal,
        service,
        deadline=dependencies.repair_deadline,
        retention=dependencies.record_retention,
        publish=dependencies.change_notifier.notify_topics,
    )

    return Domain(
        TaskQueue.OPERATIONS,
        workflows=(*WORKFLOWS, RepairOperation),
        activities=activities_of(Operations(dependencies.temporal)),
        routes=tuple(operations_endpoints.routes(service, dependencies.signer("operations"))),
        background_tasks=(
            RepairScheduler(dependencies.temporal, dependencies.repair_deadline).run,
            records.run,
            repair.run,
            repair.run_checks,
        ),
        state_listener=StateRecorder(records, repair).record,
        count_open=service.count_open,
    )


PROCESSES: dict[str, tuple[Callable[[WorkerDependencies], Domain], ...]] = {
    "auth": (auth,),
    "users": (users,),
    "tenants": (tenants, workspaces),
    "files": (files,),
    "operations": (operations, notifications),
    "all": (auth, users, tenants, workspaces, files, operations, notifications),
}
"""The domains of each process, by the argument of ``python -m worker``."""


def domains_of(process: str, dependencies: WorkerDependencies) -> tuple[Domain, ...]:
    return tuple(create(dependencies) for create in PROCESSES[process])


def routes_of(domains: Iterable[Domain]) -> list[Route]:
    return [route for domain in domains for route in domain.routes]


def activities_of(instance: object) -> tuple[Callable[..., object], ...]:
    """Return the methods of the instance that ``@activity.defn`` decorates."""
    return tuple(
        method
        for _, method in inspect.getmembers(instance, inspect.ismethod)
        if hasattr(method, "__temporal_activity_definition")
    )
