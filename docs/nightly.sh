#!/bin/sh
# Import, verify, export and report. If anything fails, mail the messages and the summary of the import.
#
# cron starts this with an almost empty environment; nightly.crontab sets these:
#   IDENTITY  path of the program      INPUT    file to import
#   RESULTS   folder for the results   MAIL_TO  address to report failures to
#   METRICS   folder of Prometheus' textfile collector, if there is one
set -u

: "${IDENTITY:?set IDENTITY to the path of the program}"
: "${INPUT:?set INPUT to the file to import}"
: "${RESULTS:?set RESULTS to a folder}"
: "${MAIL_TO:?set MAIL_TO to an address}"

summary=$RESULTS/import.json
messages=
failed=
status=0

# Run a step and remember its messages and its first exit code that is not 0. They are kept in
# memory, so that a full disk can be reported too.
step() {
    name=$1
    shift
    output=$("$@" 2>&1 </dev/null)
    code=$?
    messages="$messages--- $name: exit code $code
$output
"
    if [ "$code" -ne 0 ]; then
        failed="$failed $name"
        [ "$status" -ne 0 ] || status=$code
    fi
    return "$code"
}

rm -f "$summary" # if the program is missing, last night's summary must not be mailed

step import "$IDENTITY" import "$INPUT" -q --summary "$summary" \
    ${METRICS:+--metrics "$METRICS/identity-import.prom"}
case $? in
0 | 3) # with 3, rows were rejected; the others are stored
    step verify "$IDENTITY" verify ${METRICS:+--metrics "$METRICS/identity-verify.prom"} &&
        step export "$IDENTITY" export --what identities -o "$RESULTS/identities.jsonl" --force
    step report "$IDENTITY" report -o "$RESULTS/report.html" --force
    ;;
esac

if [ "$status" -ne 0 ]; then
    report=$(
        printf '%s\n' "$messages"
        if [ -s "$summary" ]; then
            printf -- '--- summary of the import\n'
            cat "$summary"
        fi
    )
    if ! printf '%s\n' "$report" | mail -s "identity on $(uname -n) failed:$failed" "$MAIL_TO"; then
        printf '%s\n' "$report" >&2 # cron mails this itself if MAILTO is set
    fi
fi
exit "$status"
