"""The root type Mutation, and the payloads of mutations that start no operation."""

from __future__ import annotations

from typing import Annotated

import strawberry

from resolvers import files, inputs, nodes, sign_in
from resolvers.operations import log_in, onboard_user, process_file, retry, switch_tenant, upload_file
from resolvers.operations.lifecycle import StartedOperation
from resolvers.viewer import SavedPreferences, require_viewer
from schema.descriptions import SESSION_TOKEN
from schema.fields import Info, field
from schema.inputs import (
    CancelOperationInput,
    CreateUploadInput,
    RetryOperationInput,
    RevokeSessionInput,
    UpdatePreferencesInput,
    validated,
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


@strawberry.type(description="Result of logout.")
class LogoutPayload:
    ok: bool = strawberry.field(description="Always true.")


@strawberry.type(description="Result of revokeSession.")
class RevokeSessionPayload:
    ok: bool = strawberry.field(description="Always true.")


@strawberry.type(description="Result of createUpload.")
class CreateUploadPayload:
    upload: UploadTarget = strawberry.field(description="Where to send the bytes.")


@strawberry.type(description="Result of updatePreferences.")
class UpdatePreferencesPayload:
    preferences: UserPreferences = strawberry.field(description="All preferences after the change.")


@strawberry.type(description="Result of cancelOperation.")
class CancelOperationPayload:
    operation: Operation = strawberry.field(description="The operation after the request was accepted.")


@strawberry.type(description="sessionToken is set for a retried tenant switch.")
class RetryOperationPayload:
    operation: Operation = strawberry.field(description="The new operation in its current state.")
    session_token: str | None = strawberry.field(description=SESSION_TOKEN)
    viewer: Viewer | None = strawberry.field(
        description="The viewer of the new session once a retried tenant switch is COMPLETED, else null."
    )


@strawberry.type(description="Root type of mutations.")
class Mutation:
    @field(
        LoginPayload,
        "Signs a user in. An unknown e-mail address and a wrong password both fail with INVALID_CREDENTIALS and start "
        "no operation.",
    )
    @staticmethod
    async def login(
        info: Info,
        input: Annotated[LoginInput, strawberry.argument(description="Credentials and tenant of the login.")],
    ) -> sign_in.SignInResult:
        return await log_in.start(info.context, validated(log_in.LoginInput, input))

    @field(
        LoginPayload,
        "Submits the code that a login requests while it is WAITING.\n"
        "Requires proof that the client started the login: the login's sessionToken as Authorization or, in a browser, "
        "the\nHttpOnly login cookie set with the WAITING response; otherwise NOT_FOUND.\n"
        "A wrong code fails with INVALID_CREDENTIALS and extensions.attemptsLeft; the last wrong code fails the "
        "operation.",
    )
    @staticmethod
    async def submit_mfa_code(
        info: Info, input: Annotated[SubmitMfaCodeInput, strawberry.argument(description="The login and its code.")]
    ) -> sign_in.SignInResult:
        return await log_in.submit_mfa_code(info.context, validated(log_in.SubmitMfaCodeInput, input))

    @field(LogoutPayload, "Ends the session of the request.")
    @staticmethod
    async def logout(info: Info) -> LogoutPayload:
        await sign_in.log_out(info.context)
        return LogoutPayload(ok=True)

    @field(RevokeSessionPayload, "Ends one of the viewer's sessions, which may be the session of the request.")
    @staticmethod
    async def revoke_session(
        info: Info, input: Annotated[RevokeSessionInput, strawberry.argument(description="The session to end.")]
    ) -> RevokeSessionPayload:
        viewer = await require_viewer(info.context)
        await viewer.revoke_session(validated(inputs.RevokeSessionInput, input))
        return RevokeSessionPayload(ok=True)

    @field(
        SwitchTenantPayload,
        "Replaces the session by a session in another tenant. If the tenant does not exist or the viewer is not a "
        "member, the operation is FAILED with PERMISSION_DENIED.",
    )
    @staticmethod
    async def switch_tenant(
        info: Info,
        input: Annotated[SwitchTenantInput, strawberry.argument(description="The tenant of the new session.")],
    ) -> sign_in.SignInResult:
        return await switch_tenant.start(info.context, validated(switch_tenant.SwitchTenantInput, input))

    @field(OnboardUserPayload, "Creates a user who is a member of the current tenant. Requires users:onboard.")
    @staticmethod
    async def onboard_user(
        info: Info, input: Annotated[OnboardUserInput, strawberry.argument(description="The new user.")]
    ) -> onboard_user.Onboarding:
        return await onboard_user.start(info.context, validated(onboard_user.OnboardUserInput, input))

    @field(CreateUploadPayload, "Reserves an upload and returns where to send the bytes. Requires files:write.")
    @staticmethod
    async def create_upload(
        info: Info,
        input: Annotated[CreateUploadInput, strawberry.argument(description="Name, type and size of the file.")],
    ) -> files.CreatedUpload:
        return await files.create_upload(info.context, validated(inputs.CreateUploadInput, input))

    @field(CompleteUploadPayload, "Creates a file from the bytes of an upload. Requires files:write.")
    @staticmethod
    async def complete_upload(
        info: Info,
        input: Annotated[CompleteUploadInput, strawberry.argument(description="The upload whose bytes were sent.")],
    ) -> StartedOperation:
        return await upload_file.start(info.context, validated(upload_file.CompleteUploadInput, input))

    @field(ProcessFilePayload, "Analyzes the content of a file and sets its metadata. Requires files:process.")
    @staticmethod
    async def process_file(
        info: Info, input: Annotated[ProcessFileInput, strawberry.argument(description="The file to analyze.")]
    ) -> StartedOperation:
        return await process_file.start(info.context, validated(process_file.ProcessFileInput, input))

    @field(UpdatePreferencesPayload, "Changes the viewer's preferences.")
    @staticmethod
    async def update_preferences(
        info: Info,
        input: Annotated[UpdatePreferencesInput, strawberry.argument(description="The preferences to change.")],
    ) -> SavedPreferences:
        viewer = await require_viewer(info.context)
        return await viewer.update_preferences(validated(inputs.UpdatePreferencesInput, input))

    @field(
        CancelOperationPayload,
        "Requests cancellation: the operation stops and undoes its completed steps. No effect on a closed operation. A "
        "login can be cancelled only by the client that started it.",
    )
    @staticmethod
    async def cancel_operation(
        info: Info, input: Annotated[CancelOperationInput, strawberry.argument(description="The operation to cancel.")]
    ) -> StartedOperation:
        return await nodes.cancel_operation(info.context, validated(inputs.CancelOperationInput, input))

    @field(
        RetryOperationPayload,
        "Starts a new operation with the input of a failed one. Only for the user who started it, and not for logins.",
    )
    @staticmethod
    async def retry_operation(
        info: Info, input: Annotated[RetryOperationInput, strawberry.argument(description="The failed operation.")]
    ) -> sign_in.SignInResult:
        return await retry.retry(info.context, validated(inputs.RetryOperationInput, input))
