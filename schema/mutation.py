"""What can be done."""

from __future__ import annotations

import strawberry

from resolvers import files, inputs, nodes, sign_in
from resolvers.operations import log_in, onboard_user, process_file, retry, switch_tenant, upload_file
from resolvers.operations.operations import StartedOperation
from resolvers.viewer import PreferencesSaved, signed_in_viewer
from schema.fields import Info, field
from schema.inputs import (
    CancelOperationInput,
    CreateUploadInput,
    RetryOperationInput,
    RevokeSessionInput,
    UpdatePreferencesInput,
    checked,
)
from schema.types.files import UploadTarget
from schema.types.log_in import LoginInput, LoginPayload, SubmitMfaCodeInput
from schema.types.onboard_user import OnboardUserInput, OnboardUserPayload
from schema.types.operations import Operation
from schema.types.process_file import ProcessFileInput, ProcessFilePayload
from schema.types.switch_tenant import SwitchTenantInput, SwitchTenantPayload
from schema.types.upload_file import CompleteUploadInput, CompleteUploadPayload
from schema.types.users import UserPreferences
from schema.types.viewer import Viewer


@strawberry.type
class LogoutPayload:
    ok: bool


@strawberry.type
class RevokeSessionPayload:
    ok: bool


@strawberry.type
class CreateUploadPayload:
    upload: UploadTarget


@strawberry.type
class UpdatePreferencesPayload:
    preferences: UserPreferences


@strawberry.type
class CancelOperationPayload:
    operation: Operation


@strawberry.type
class RetryOperationPayload:
    operation: Operation
    session_token: str | None = strawberry.field(
        description="As in LoginPayload, where the operation makes a session; null where it does not."
    )
    viewer: Viewer | None


@strawberry.type
class Mutation:
    @field(
        LoginPayload,
        "A wrong e-mail and a wrong password are the top-level error INVALID_CREDENTIALS, alike; "
        "no operation is started.",
    )
    @staticmethod
    async def login(info: Info, input: LoginInput) -> sign_in.SignIn:
        return await log_in.start(info.context, checked(log_in.LoginInput, input))

    @field(
        LoginPayload,
        "Requires proof that the client started the login: the login's sessionToken as Authorization or, in a browser, "
        "the\nHttpOnly login cookie set with the WAITING response; otherwise NOT_FOUND.\n"
        "A wrong code is the top-level error INVALID_CREDENTIALS with extensions.attemptsLeft; "
        "the last wrong one fails the operation.",
    )
    @staticmethod
    async def submit_mfa_code(info: Info, input: SubmitMfaCodeInput) -> sign_in.SignIn:
        return await log_in.submit_mfa_code(info.context, checked(log_in.SubmitMfaCodeInput, input))

    @field(LogoutPayload)
    @staticmethod
    async def logout(info: Info) -> LogoutPayload:
        await sign_in.log_out(info.context)
        return LogoutPayload(ok=True)

    @field(RevokeSessionPayload)
    @staticmethod
    async def revoke_session(info: Info, input: RevokeSessionInput) -> RevokeSessionPayload:
        viewer = await signed_in_viewer(info.context)
        await viewer.revoke_session(checked(inputs.RevokeSessionInput, input))
        return RevokeSessionPayload(ok=True)

    @field(
        SwitchTenantPayload,
        "To a tenant that the viewer is no member of, or that does not exist: "
        "the operation FAILS with PERMISSION_DENIED, alike.",
    )
    @staticmethod
    async def switch_tenant(info: Info, input: SwitchTenantInput) -> sign_in.SignIn:
        return await switch_tenant.start(info.context, checked(switch_tenant.SwitchTenantInput, input))

    @field(OnboardUserPayload)
    @staticmethod
    async def onboard_user(info: Info, input: OnboardUserInput) -> onboard_user.Onboarding:
        return await onboard_user.start(info.context, checked(onboard_user.OnboardUserInput, input))

    @field(CreateUploadPayload)
    @staticmethod
    async def create_upload(info: Info, input: CreateUploadInput) -> files.UploadCreated:
        return await files.create_upload(info.context, checked(inputs.CreateUploadInput, input))

    @field(CompleteUploadPayload)
    @staticmethod
    async def complete_upload(info: Info, input: CompleteUploadInput) -> StartedOperation:
        return await upload_file.start(info.context, checked(upload_file.CompleteUploadInput, input))

    @field(ProcessFilePayload)
    @staticmethod
    async def process_file(info: Info, input: ProcessFileInput) -> StartedOperation:
        return await process_file.start(info.context, checked(process_file.ProcessFileInput, input))

    @field(UpdatePreferencesPayload)
    @staticmethod
    async def update_preferences(info: Info, input: UpdatePreferencesInput) -> PreferencesSaved:
        viewer = await signed_in_viewer(info.context)
        return await viewer.update_preferences(checked(inputs.UpdatePreferencesInput, input))

    @field(
        CancelOperationPayload,
        "Asks it to stop and undo what it did; harmless where it has closed. "
        "A login can be cancelled only by the client that started it.",
    )
    @staticmethod
    async def cancel_operation(info: Info, input: CancelOperationInput) -> StartedOperation:
        return await nodes.cancel(info.context, checked(inputs.CancelOperationInput, input))

    @field(RetryOperationPayload, "Starts a closed, failed operation again with the same input, as a new operation.")
    @staticmethod
    async def retry_operation(info: Info, input: RetryOperationInput) -> sign_in.SignIn:
        return await retry.retry(info.context, checked(inputs.RetryOperationInput, input))
