"""Lists of operations as the contract defines them: filters, orders, subjects, and the lists of a whole tenant."""

from __future__ import annotations

from uuid import uuid4

from tests.end_to_end.client import Client, Json
from tests.end_to_end.test_contract_onboarding import onboard, onboarding_input

LIST = """
query ($filter: OperationFilter, $orderBy: OperationOrder, $first: Int, $after: String) {
  viewer { operations(filter: $filter, orderBy: $orderBy, first: $first, after: $after) {
    totalCount pageInfo { hasNextPage hasPreviousPage endCursor }
    nodes { id kind subject target { __typename id } retryOf { id } startedAt closedAt }
  } }
}
"""
OF_TENANT = """
query ($filter: OperationFilter) {
  viewer { tenantOverview { currentTenant {
    operations(filter: $filter, first: 100) { totalCount nodes { id subject startedBy { email } } }
    operationStatistics(filter: $filter) {
      totalCount activeCount failureRate byStatus { status count }
      byKind { kind count failedCount medianSeconds p95Seconds failuresByStep { step count } }
      series { start started completed failed cancelled }
    }
  } } }
}
"""


async def list_operations(client: Client, **variables: object) -> Json:
    """Return one page of the viewer's operations."""
    page: Json = (await client.execute(LIST, **variables))["viewer"]["operations"]
    return page


async def test_operation_is_listed_with_its_subject_immediately(ada: Client) -> None:
    person = onboarding_input(waitSeconds=0)
    operation = (await onboard(ada, person))["operation"]

    page = await list_operations(ada, filter={"search": person["email"].upper()})

    assert [(node["id"], node["subject"]) for node in page["nodes"]] == [(operation["id"], person["email"])]
    assert page["totalCount"] == 1


async def test_target_is_the_object_that_the_operation_created(ada: Client) -> None:
    person = onboarding_input()
    result = (await onboard(ada, person))["operation"]["result"]

    [node] = (await list_operations(ada, filter={"targetIds": [result["user"]["id"]], "kinds": ["USER_ONBOARDING"]}))[
        "nodes"
    ]

    assert node["target"] == {"__typename": "User", "id": result["user"]["id"]}
    assert node["retryOf"] is None


async def test_filters_and_orders_narrow_the_list(ada: Client) -> None:
    mark = uuid4().hex
    started = [
        (await onboard(ada, onboarding_input(email=f"{n}-{mark}@example.com")))["operation"]["id"] for n in range(3)
    ]

    newest_first = await list_operations(ada, filter={"search": mark}, first=2)
    rest = await list_operations(ada, filter={"search": mark}, first=2, after=newest_first["pageInfo"]["endCursor"])
    oldest_first = await list_operations(ada, filter={"search": mark}, orderBy="STARTED_AT_ASC")

    assert [node["id"] for node in newest_first["nodes"] + rest["nodes"]] == started[::-1]
    assert newest_first["pageInfo"]["hasNextPage"]
    assert rest["pageInfo"]["hasPreviousPage"]
    assert [node["id"] for node in oldest_first["nodes"]] == started
    middle = oldest_first["nodes"][1]["startedAt"]
    for filter, expected in (
        ({"startedAfter": middle}, started[1:]),
        ({"startedBefore": middle}, started[:1]),
        ({"exceptKinds": ["USER_ONBOARDING"]}, []),
        ({"statuses": ["FAILED"]}, []),
    ):
        page = await list_operations(ada, filter=filter | {"search": mark}, orderBy="STARTED_AT_ASC")
        assert [node["id"] for node in page["nodes"]] == expected


async def test_cursor_of_another_order_is_refused(ada: Client) -> None:
    await onboard(ada, onboarding_input())
    cursor = (await list_operations(ada, first=1))["pageInfo"]["endCursor"]

    refusal = await ada.error_of(LIST, after=cursor, orderBy="DURATION_DESC")

    assert refusal["code"] == "BAD_USER_INPUT"


async def test_administrators_see_the_operations_and_statistics_of_all_members(ada: Client, grace: Client) -> None:
    person = onboarding_input()
    await onboard(ada, person)

    tenant = (await ada.execute(OF_TENANT))["viewer"]["tenantOverview"]["currentTenant"]

    assert {"grace@example.com", "ada@example.com"} <= {
        node["startedBy"]["email"] for node in tenant["operations"]["nodes"] if node["startedBy"]
    }
    statistics = tenant["operationStatistics"]
    assert statistics["totalCount"] == tenant["operations"]["totalCount"] > 0
    assert sum(bucket["started"] for bucket in statistics["series"]) == statistics["totalCount"]
    [onboarding] = [kind for kind in statistics["byKind"] if kind["kind"] == "USER_ONBOARDING"]
    assert onboarding["medianSeconds"] > 0


async def test_members_see_neither_operations_nor_statistics_of_the_tenant(grace: Client) -> None:
    response = await grace.execute_unchecked(OF_TENANT)

    tenant = response["data"]["viewer"]["tenantOverview"]["currentTenant"]
    assert (tenant["operations"], tenant["operationStatistics"]) == (None, None)
    assert {error["extensions"]["code"] for error in response["errors"]} == {"FORBIDDEN"}
