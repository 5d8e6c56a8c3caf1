"""What a generator of requests cannot know about this API. Each exception is as narrow as can be said."""

import schemathesis

TOKEN_CODES = {"tokenInvalid", "filterMismatch"}


def problem(response):
    if "problem+json" not in response.headers.get("content-type", [""])[0]:
        return {}
    return response.json()


@schemathesis.hook
def map_query(context, query):
    """Positions that nobody has reached cost 3 s each; most of them may as well be small."""
    version = (query or {}).get("minVersion")
    if isinstance(version, str) and version.isdigit() and len(version) > 2 and hash(version) % 20:
        query["minVersion"] = version[:1]
    return query


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """No schema can say which tokens were handed out, nor which positions have been reached."""
    found = problem(response)
    if type(failure).__name__ == "RejectedPositiveData" and found.get("code") in TOKEN_CODES:
        return False
    return not (response.status_code == 503 and found.get("reason") == "notReached")
