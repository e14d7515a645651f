"""The gateway as an OpenAI-compatible server: any script that uses an ordinary client can be recorded and trained.

Nothing here is imported by :mod:`askesis.gateway` itself; the modules that need Starlette and uvicorn (extra
``serve``) are imported by their users.
"""
