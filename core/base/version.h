/* version.h: the version of the engine, as --version and run manifests give it. */
#ifndef LC_VERSION_H
#define LC_VERSION_H

#define LC_VERSION "0.1.0"

#endif
