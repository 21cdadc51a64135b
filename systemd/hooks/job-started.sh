#!/bin/sh
# A runner runs this first in every job: from here on the job acts for whom its ID token names. GitHub's tokens are asked for
# (jobs with the permission `id-token: write`), GitLab's are in HOLDPOINT_TOKEN (id_tokens:). A job without one goes on, and
# reaches the runner's own hosts only.
exec /usr/bin/holdpoint session bind --optional
