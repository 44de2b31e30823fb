"""What this server takes and answers, told to programs: the OpenAPI 3.1 document at `/openapi.json`.

document      puts the document together; `GET /openapi.json`.
operation     one method of one path, and what every operation has in common.
shapes        the few forms of JSON Schema that the rest is written in.
records       the schemas with a name: tasks, streams, problem documents.
reading       the same of what readers get: events, polls, pages, gaps.
parameters    what comes in a path, a query or a header; `STARTING` is what every event stream takes.
answers       responses: JSON, event streams, problem documents by their status.
tasks, streams, dead_letters, service    the operations, by what they are about.

Bounds and names come from the code that holds requests to them. What is written here beside is held to the server by
tests: every route is in the document and the other way round, and requests made from it are answered as it says.
"""
