# shellcheck shell=bash
# Long work, with a line that says how many minutes are left.
#
# The parts' sizes are the seconds of one measured run, and only their proportions matter: the estimate begins with that run's
# speed and follows what this machine does.

# Seconds on two cores with nothing else to do.
declare -rA PART_SIZE=([rocksdb]=780 [build]=400 [tests]=180 [peers]=140)
# Cargo's time in percent when so many thousandths of its units are done. The last ones are our own crates, the dearest.
readonly CARGO_TIME=(0:0 100:4 200:9 300:15 400:22 500:27 600:33 700:41 800:48 900:58 950:64 970:74 980:82 990:89 1000:100)
# Units that the tests have besides those of the program.
readonly TEST_UNITS=35
# What is done before these seconds was done by an earlier run.
readonly FOUND_SECONDS=5

declare -A part_percent=()
work_start=0 work_found=0 work_done=-1
left=0 left_at=0 remaining=""

# Begins waiting for these parts.
expect() {
    local part
    for part in "$@"; do part_percent[$part]=0; done
    work_start=$SECONDS
}

# Says how many percent of a part are done.
reach() { part_percent[$1]=$2; }

# Sets `remaining` to what is left, in words: `about 7 min left`.
estimate() {
    local part size=0 reached=0 elapsed=$((SECONDS - work_start)) prior seconds
    for part in "${!part_percent[@]}"; do
        size=$((size + PART_SIZE[$part]))
        reached=$((reached + PART_SIZE[$part] * part_percent[$part] / 100))
    done
    [ "$elapsed" -ge "$FOUND_SECONDS" ] || work_found=$reached
    if [ "$reached" -ne "$work_done" ]; then
        prior=$((size / 10))
        left=$(((size - reached) * (elapsed + prior) / (reached - work_found + prior)))
        left_at=$SECONDS work_done=$reached
    fi
    seconds=$((left - (SECONDS - left_at)))
    # shellcheck disable=SC2034 # for the script that reads this one
    if [ "$seconds" -lt 60 ]; then remaining="about a minute left"; else remaining="about $(((seconds + 59) / 60)) min left"; fi
}

# Percent of a part's time, when cargo has done so many of so many units: `cargo_percent PART DONE TOTAL`.
cargo_percent() {
    local left=$(($3 - $2)) done=$(($2 * 1000 / $3)) point from=0 from_time=0 to to_time
    if [ "$1" = tests ]; then
        echo $((left < TEST_UNITS ? (TEST_UNITS - left) * 100 / TEST_UNITS : 0))
        return
    fi
    for point in "${CARGO_TIME[@]}"; do
        to=${point%:*} to_time=${point#*:}
        [ "$done" -gt "$to" ] || break
        from=$to from_time=$to_time
    done
    echo $((to > from ? from_time + (to_time - from_time) * (done - from) / (to - from) : to_time))
}
