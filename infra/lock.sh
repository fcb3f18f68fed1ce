#!/usr/bin/env bash
# Write requirements.lock from an environment, its comment lines kept. usage: infra/lock.sh PIP
set -euo pipefail
kept=$(grep '^#' requirements.lock)
{ echo "$kept"; "$1" freeze --exclude-editable | grep -v '^slimline' | sed 's/+cpu$//'; } > requirements.lock.new
mv requirements.lock.new requirements.lock
