/* SPDX-License-Identifier: MIT */
/* Checksums over a file's frames: SHA-256 (OpenSSL's), and one that costs next to nothing. */

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "demo.h"

struct digest {
	EVP_MD_CTX *sha; /* NULL: the cheap one */
	uint64_t sum;
};

struct digest *digest_free(struct digest *digest)
{
	if (digest) {
		EVP_MD_CTX_free(digest->sha);
		free(digest);
	}
	return NULL;
}

struct digest *digest_new(enum demo_check check)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest || check == DEMO_SUM)
		return digest;
	digest->sha = EVP_MD_CTX_new();
	if (!digest->sha || EVP_DigestInit_ex(digest->sha, EVP_sha256(), NULL) != 1)
		return digest_free(digest);
	return digest;
}

/* All frames but the last are whole words, so that the sum does not depend on where frames end. */
static uint64_t sum_words(const unsigned char *data, size_t length)
{
	uint64_t sum = 0, word;
	size_t i;

	for (i = 0; i + sizeof(word) <= length; i += sizeof(word)) {
		memcpy(&word, data + i, sizeof(word));
		sum += word;
	}
	for (; i < length; i++)
		sum += data[i];
	return sum;
}

int digest_add(struct digest *digest, const void *data, size_t length)
{
	if (digest->sha)
		return EVP_DigestUpdate(digest->sha, data, length) == 1 ? 0 : SHMB_EIO;
	digest->sum += sum_words(data, length);
	return 0;
}

int digest_finish(struct digest *digest, unsigned char *ret_value)
{
	int r = 0;

	if (digest->sha) {
		if (EVP_DigestFinal_ex(digest->sha, ret_value, NULL) != 1)
			r = SHMB_EIO;
	} else {
		memset(ret_value, 0, DEMO_DIGEST_BYTES);
		memcpy(ret_value, &digest->sum, sizeof(digest->sum));
	}
	digest_free(digest);
	return r;
}
