/* Preloaded into a server: the milliseconds of its time of day stand still for RWF_TEST_CLOCK_MS of them. The order of
   moments stays, in the microseconds, of which none comes twice. */

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static _Atomic long long latest;
    const char *text = getenv("RWF_TEST_CLOCK_MS");
    long long steps = text ? atoll(text) : 1, real, micros, before = latest;
    struct timespec time;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time);
    real = time.tv_sec * 1000000LL + time.tv_nsec / 1000;
    do {
        micros = real - real % (1000 * steps) + real % (1000 * steps) / steps;
        if (micros <= before) micros = before + 1;
    } while (!atomic_compare_exchange_weak(&latest, &before, micros));
    now->tv_sec = micros / 1000000;
    now->tv_usec = micros % 1000000;
    return 0;
}
