#!/usr/bin/env bash
# Notes about the repository that the run works on, on standard output.
set -euo pipefail

range="${KILROY_INPUT_SINCE:+$KILROY_INPUT_SINCE..}HEAD"
printf '# %s\n\n' "$KILROY_INPUT_TITLE"
git log --no-merges --invert-grep --grep='^attractor(' --format='- %s (%an)' "$range"
printf '\nAuthors: %s\n' "$(git log --format=%an "$range" | sort -u | wc -l | tr -d ' ')"
