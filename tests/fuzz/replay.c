/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/fuzz/replay.c - runs a fuzz target over corpora without a fuzzer: each file, and each file cut
 * at every length; a longer one than REPLAY_CUT_MAX, or than the target says (replay.h), at so many lengths. One TAP case a folder. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

#define REPLAY_CUT_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly `len` bytes of heap, so that the sanitizer sees one byte too far. */
static void once(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	memcpy(copy, bytes, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *f = fopen(path, "rb");
	unsigned most = &fuzz_replay_cuts ? fuzz_replay_cuts : REPLAY_CUT_MAX;
	size_t len, step;

	if (!f)
		return 0;
	len = fread(bytes, 1, sizeof(bytes), f);
	(void)fclose(f);
	once(bytes, len);
	step = len > most ? (len + most - 1) / most : 1;
	for (size_t cut = 0; cut < len; cut += step)
		once(bytes, cut);
	return 1;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		struct dirent *entry;
		int n = 0;

		while (d && (entry = readdir(d))) {
			char path[4096];

			if (entry->d_name[0] == '.')
				continue;
			(void)snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			n += file(path);
		}
		if (d)
			(void)closedir(d);
		printf("%sok %d - %d files of %s\n", n ? "" : "not ", i, n, argv[i]);
	}
	printf("1..%d\n", argc - 1);
	return 0;
}
