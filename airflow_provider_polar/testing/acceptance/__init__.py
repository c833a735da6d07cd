"""An acceptance suite for any client of Polar's Events API: each trap of that API, set for the client and judged.

    python -m airflow_provider_polar.testing.acceptance --client polar-sdk --client 'node client.js'

A client is a command; the suite starts it with the address and the token of a local Polar in the environment:

====================================================== ==========================================================
POLAR_BASE_URL, POLAR_ACCESS_TOKEN                     where to send requests, and with which bearer token
COMMAND list --start A --end B                         writes every event with A <= timestamp < B to its output,
                                                       as the API gives it, one JSON object a line
COMMAND sync --start A --end B --state DIRECTORY       the same, but only of those events that no earlier call with
                                                       this directory, which is kept between the calls, has written
COMMAND ingest                                         sends the events that its input holds, one JSON object a line
COMMAND version                                        writes one line (optional)
====================================================== ==========================================================

It ends with 0 when everything is done, with 3 when it does not offer this, and with anything else when it failed. What
it writes to its error output is quoted of a failure, the last line only.
"""
