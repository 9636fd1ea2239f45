"""Sphinx extension: a search for "normalization" or "color" finds the British spelling.

The papers spell the American way, and so do many readers. A search compares stems: Python takes
those of the pages, JavaScript those of the question. Both make a word American first.
"""

import json
import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

# Regular expressions that Python and JavaScript read alike.
AMERICAN = {
    "is(?=(e|ed|er|ers|es|ing|ation|ations)$)": "iz",
    "(?<=ol|hb|vi)our": "or",
    "centre(?=s?$)": "center",
    "^grey": "gray",
}


class EitherSpelling(SearchEnglish):
    """English stems that are the same for both spellings."""

    js_stemmer_code = f"""{SearchEnglish.js_stemmer_code}
const EnglishStemmer = Stemmer;
Stemmer = function() {{
  const english = new EnglishStemmer();
  this.stemWord = (word) => english.stemWord(Object.entries({json.dumps(AMERICAN)}).reduce(
    (word, [british, american]) => word.replace(new RegExp(british), american), word));
}};"""

    def stem(self, word: str) -> str:
        """The stem of a word."""
        word = word.lower()
        for british, american in AMERICAN.items():
            word = re.sub(british, american, word)
        return super().stem(word)


def setup(app: Sphinx) -> None:
    """Put it in the place of Sphinx's English."""
    app.add_search_language(EitherSpelling)
