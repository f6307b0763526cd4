/* corpus.h: text from .txt and .jsonl files, plain or .gz, as documents. Depends on base, io.
 *
 * A .txt file is one text; asked for documents, each line that is not blank is one. In a .jsonl file the string "text"
 * of each line is a document. */
#ifndef LC_CORPUS_H
#define LC_CORPUS_H

#include "base/status.h"

/* How documents become one text. */
typedef enum lc_join {
    LC_JOIN_PLAIN, /* .txt as it stands; documents of a .jsonl stay apart, an end-of-text token between them */
    LC_JOIN_ROWS /* the published WikiText perplexity protocol: rows are lines with their newline, a row of one space is
                    empty, joined by
                    "\n\n" */
} lc_join;

typedef struct lc_corpus {
    char *text; /* the documents one after the other */
    size_t length;
    size_t *ends; /* end of each document in `text` */
    int64_t documents;
    uint64_t source; /* hash of the file as it stands, unpacked: the same however its text is joined */
} lc_corpus;

/* The file for `source`, "name/split": $LACUNA_DATA/name/split.txt, .jsonl, .txt.gz or .jsonl.gz; LACUNA_DATA defaults
 * to "data". LC_ENOTFOUND says which file to put where. */
lc_status lc_corpus_find(const char *source, char **path); /* lc_free */
/* `lines`: make a document of each line of a .txt. LC_EFORMAT says the line of a bad .jsonl. LC_EINVAL when there is no
 * text at all. */
lc_status lc_corpus_read(const char *path, lc_join join, bool lines, lc_corpus *out);
/* The same for a .txt already in memory; `name` begins messages. */
lc_status lc_corpus_from_text(const char *text, size_t length, const char *name, lc_join join, bool lines,
                              lc_corpus *out);
void lc_corpus_free(lc_corpus *c);

#endif
