# shellcheck shell=bash
# Long work, with a line that says how many minutes are left.
#
# The parts' sizes are the seconds of one measured run, and only their proportions matter: the estimate begins with that run's
# speed and follows what this machine does.

# Seconds on two idle cores.
declare -rA PART_SIZE=([rocksdb]=870 [build]=360 [tests]=190 [peers]=140)
# Percent of cargo's time that are over when so many twentieths of its units are done. The last units are our own crates, the
# dearest of all.
readonly CARGO_TIME=(0 2 3 5 6 7 9 10 14 15 19 23 27 31 34 36 39 42 49 53 100)
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

# Percent of cargo's time, when so many of so many units are done.
cargo_percent() {
    local twentieths=$(($1 * 20 / $2)) rest=$(($1 * 20 % $2))
    local from=${CARGO_TIME[$twentieths]} to=${CARGO_TIME[$((twentieths + 1))]:-100}
    echo $((from + (to - from) * rest / $2))
}
