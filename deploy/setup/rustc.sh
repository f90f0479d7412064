#!/bin/sh
# Does nothing but run the compiler. Its path is this clone's, and that is the point: see `env.sh`.
exec "$@"
