"""What Markdown, plain text and simple HTML become, to the character."""

import pytest
from gateway.html.renderer import HtmlRenderer

GOLDEN = [
    ("", ""),
    ("   \n \n", ""),
    ("Hello", "<p>Hello</p>"),
    ("Hello\nworld", "<p>Hello\nworld</p>"),
    ("a\n\n\n\nb", "<p>a</p><p>b</p>"),
    ("  indented", "<p>indented</p>"),
    ("a\r\nb", "<p>a\nb</p>"),
    ("# One", "<h1>One</h1>"),
    ("###### Six", "<h6>Six</h6>"),
    ("####### Seven", "<p>####### Seven</p>"),
    ("#NoSpace", "<p>#NoSpace</p>"),
    ("# **Bold** `x`\nText", "<h1><strong>Bold</strong> <code>x</code></h1><p>Text</p>"),
    ("## A\n## B", "<h2>A</h2><h2>B</h2>"),
    ("**bold**", "<p><strong>bold</strong></p>"),
    ("__bold__", "<p><strong>bold</strong></p>"),
    ("*em*", "<p><em>em</em></p>"),
    ("_em_", "<p><em>em</em></p>"),
    ("***both***", "<p><em><strong>both</strong></em></p>"),
    ("**bold *and em* x**", "<p><strong>bold <em>and em</em> x</strong></p>"),
    ("*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"),
    ("~~gone~~", "<p><s>gone</s></p>"),
    ("~5 and ~6", "<p>~5 and ~6</p>"),
    ("snake_case_name", "<p>snake_case_name</p>"),
    ("2*3*4 and x**2", "<p>2*3*4 and x**2</p>"),
    ("5 * 3", "<p>5 * 3</p>"),
    ("* not closed", "<ul><li>not closed</li></ul>"),
    ("**open to the end", "<p><strong>open to the end</strong></p>"),
    ("**open\n\nnext", "<p><strong>open</strong></p><p>next</p>"),
    ("*a\nb*", "<p><em>a\nb</em></p>"),
    ("中文**加粗**中文", "<p>中文<strong>加粗</strong>中文</p>"),
    ("stray ** stars", "<p>stray ** stars</p>"),
    ("(**x**)", "<p>(<strong>x</strong>)</p>"),
    ("`code`", "<p><code>code</code></p>"),
    ("`a < b && **c**`", "<p><code>a &lt; b &amp;&amp; **c**</code></p>"),
    ("`` `tick` ``", "<p><code>`tick`</code></p>"),
    ("`unclosed\nnext", "<p><code>unclosed</code>\nnext</p>"),
    ("a ` b", "<p>a ` b</p>"),
    ("`a` and ``b``", "<p><code>a</code> and <code>b</code></p>"),
    ("```\ncode\n```", "<pre><code>code\n</code></pre>"),
    ("```python\nprint('<b>')\n```\nafter", "<pre><code>print('&lt;b&gt;')\n</code></pre><p>after</p>"),
    ("~~~\na\n~~~", "<pre><code>a\n</code></pre>"),
    ("```\nunclosed", "<pre><code>unclosed</code></pre>"),
    ("````\n```\n````", "<pre><code>```\n</code></pre>"),
    ("```inline``` code", "<p><code>inline</code> code</p>"),
    ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
    ("* a\n* b", "<ul><li>a</li><li>b</li></ul>"),
    ("+ a", "<ul><li>a</li></ul>"),
    ("- a\n  - b\n    - c\n- d", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ul>"),
    ("- a\n\n- b", "<ul><li>a</li><li>b</li></ul>"),
    ("- a\n\n  more", "<ul><li>a<p>more</p></li></ul>"),
    ("- a\nlazy", "<ul><li>a\nlazy</li></ul>"),
    ("- a\n\nout", "<ul><li>a</li></ul><p>out</p>"),
    ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
    ("1) a", "<ol><li>a</li></ol>"),
    ("4. a\n5. b", '<ol start="4"><li>a</li><li>b</li></ol>'),
    ("1. a\n  - b\n  - c\n2. d", "<ol><li>a<ul><li>b</li><li>c</li></ul></li><li>d</li></ol>"),
    ("1. a\n   - b\n\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    ("10. a\n    - b", '<ol start="10"><li>a<ul><li>b</li></ul></li></ol>'),
    ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
    ("text\n- a", "<p>text</p><ul><li>a</li></ul>"),
    ("text\n2. b", "<p>text\n2. b</p>"),
    ("text\n1. b", "<p>text</p><ol><li>b</li></ol>"),
    ("2024 was", "<p>2024 was</p>"),
    ("-\n- b", "<ul><li></li><li>b</li></ul>"),
    ("- **a**: b", "<ul><li><strong>a</strong>: b</li></ul>"),
    ("- [ ] task", "<ul><li>[ ] task</li></ul>"),
    ("> a\n> b", "<blockquote><p>a\nb</p></blockquote>"),
    ("> a\nlazy", "<blockquote><p>a\nlazy</p></blockquote>"),
    ("> a\n\nb", "<blockquote><p>a</p></blockquote><p>b</p>"),
    ("> a\n>\n> b", "<blockquote><p>a</p><p>b</p></blockquote>"),
    ("> - a\n> - b", "<blockquote><ul><li>a</li><li>b</li></ul></blockquote>"),
    ("> > deep", "<blockquote><blockquote><p>deep</p></blockquote></blockquote>"),
    ("- > q", "<ul><li><blockquote><p>q</p></blockquote></li></ul>"),
    ("> ```\n> x\n> ```\ny", "<blockquote><pre><code>x\n</code></pre></blockquote><p>y</p>"),
    ("> ```\n> x\nout", "<blockquote><pre><code>x\n</code></pre></blockquote><p>out</p>"),
    ("---", "<hr>"),
    ("***", "<hr>"),
    ("_ _ _", "<hr>"),
    ("a\n---\nb", "<p>a</p><hr><p>b</p>"),
    ("--", "<p>--</p>"),
    ("- - -", "<hr>"),
    ("[a](https://x.y)", '<p><a href="https://x.y" rel="noopener noreferrer nofollow">a</a></p>'),
    (
        '[a **b** `c`](https://x.y "t")',
        '<p><a href="https://x.y" rel="noopener noreferrer nofollow">a <strong>b</strong> <code>c</code></a></p>',
    ),
    ("[w](https://e.org/a_(b))", '<p><a href="https://e.org/a_(b)" rel="noopener noreferrer nofollow">w</a></p>'),
    ("[1] and [x][y]", "<p>[1] and [x][y]</p>"),
    ("[a](https://x.y", "<p>[a](https://x.y</p>"),
    ("[a](b c)", "<p>[a](b c)</p>"),
    ("[a [b](https://x.y)", '<p>[a <a href="https://x.y" rel="noopener noreferrer nofollow">b</a></p>'),
    ("![alt](https://x.y/i.png)", "<p>alt</p>"),
    ("Hi![x](https://x.y)", "<p>Hix</p>"),
    ("wow!", "<p>wow!</p>"),
    ("<https://x.y/z>", '<p><a href="https://x.y/z" rel="noopener noreferrer nofollow">https://x.y/z</a></p>'),
    ("<me@x.yz>", '<p><a href="mailto:me@x.yz" rel="noopener noreferrer nofollow">me@x.yz</a></p>'),
    ('<a href="https://x.y">t</a>', '<p><a href="https://x.y" rel="noopener noreferrer nofollow">t</a></p>'),
    ("a  \nb", "<p>a  <br>b</p>"),
    ("a\\\nb", "<p>a<br>b</p>"),
    ("a<br>b<br/>c", "<p>a<br>b<br>c</p>"),
    ("\\*not em\\*", "<p>*not em*</p>"),
    ("\\a \\\\", "<p>\\a \\</p>"),
    ("R&D &amp; &lt;b&gt; &copy; &#65; &#x42; &nope; &amp", "<p>R&amp;D &amp; &lt;b&gt; © A B &amp;nope; &amp;amp</p>"),
    ("a < b > c", "<p>a &lt; b &gt; c</p>"),
    ("x <3 y", "<p>x &lt;3 y</p>"),
    ("<p>a</p><p>b</p>", "<p>a</p><p>b</p>"),
    ("<p>Hello <b>you</b></p><ul><li>x</li></ul>", "<p>Hello <b>you</b></p><ul><li>x</li></ul>"),
    ("<p>\n  Hello\n</p>", "<p>Hello</p>"),
    (
        "<ul>\n    <li>One</li>\n    <li>Two\n"
        "        <ul>\n            <li>x</li>\n        </ul>\n    </li>\n</ul>\n<p>end</p>",
        "<ul><li>One</li><li>Two<ul><li>x</li></ul></li></ul><p>end</p>",
    ),
    ("<h2>T</h2>\ntext", "<h2>T</h2><p>text</p>"),
    ("<div>a<p>b</p>c</div>", "<div>a<p>b</p>c</div>"),
    ("<blockquote>q</blockquote>", "<blockquote>q</blockquote>"),
    ("<pre>\n a\n  *b*\n\nc</pre>", "<pre> a\n  *b*\n\nc</pre>"),
    ('<pre><code class="x">a &lt; b\n</code></pre>', "<pre><code>a &lt; b\n</code></pre>"),
    ("<code>*a*</code>", "<p><code>*a*</code></p>"),
    ("<table><tr><td>a</td><td>b</td></tr></table>", "<table><tbody><tr><td>a</td><td>b</td></tr></tbody></table>"),
    (
        "<table>\n<thead>\n<tr><th>h</th></tr>\n</thead>\n<tbody>\n<tr><td>d</td></tr>\n</tbody>\n</table>",
        "<table><thead><tr><th>h</th></tr></thead><tbody><tr><td>d</td></tr></tbody></table>",
    ),
    ("<li>alone", "<ul><li>alone</li></ul>"),
    ("<b><i>x</b>y</i>", "<p><b><i>x</i></b>y</p>"),
    ("<p>a<p>b", "<p>a</p><p>b</p>"),
    ("</p></div>x", "<p>x</p>"),
    ("text<ul><li>a</ul>more", "<p>text</p><ul><li>a</li></ul><p>more</p>"),
    ("<hr>a<hr/>", "<hr><p>a</p><hr>"),
    ("<B>x</B>", "<p><b>x</b></p>"),
    ("<ol><li>a<li>b</ol>", "<ol><li>a</li><li>b</li></ol>"),
    ("<table>x</table>", "<table><tbody><tr><td>x</td></tr></tbody></table>"),
    ("<td>x</td>", "<p>x</p>"),
    ("**a <b>c** d</b>", "<p><strong>a <b>c</b></strong> d</p>"),
    ("a\n<!-- c -->\nb", "<p>a\nb</p>"),
    ("<div>\n- a\n</div>b", "<div><ul><li>a</li></ul></div><p>b</p>"),
    ("- a\n<p>b</p>", "<ul><li>a</li></ul><p>b</p>"),
    ("- a\n<b>b</b>", "<ul><li>a\n<b>b</b></li></ul>"),
    (
        "*a [b* c](https://x.y) d*",
        '<p><em>a <a href="https://x.y" rel="noopener noreferrer nofollow">b* c</a> d</em></p>',
    ),
    ("<ul><li>a\n</li><li>b</li></ul>", "<ul><li>a</li><li>b</li></ul>"),
    (
        "[**a](https://x.y) b",
        '<p><a href="https://x.y" rel="noopener noreferrer nofollow"><strong>a</strong></a> b</p>',
    ),
    ("[`a](https://x.y) b", '<p><a href="https://x.y" rel="noopener noreferrer nofollow"><code>a</code></a> b</p>'),
    ("- a\n  ```py\n  x\n    y\n  ```\n- b", "<ul><li>a<pre><code>x\n  y\n</code></pre></li><li>b</li></ul>"),
    ("1. a\n\n```\nx\n```\n\n2. b", '<ol><li>a</li></ol><pre><code>x\n</code></pre><ol start="2"><li>b</li></ol>'),
    ("&#13;\\&amp; \\<b>", "<p>�&amp;amp; &lt;b&gt;</p>"),
    ("a<ul>\n<li>**b**\n</ul>", "<p>a</p><ul><li><strong>b</strong></li></ul>"),
    ("[](https://x.y/z)", '<p><a href="https://x.y/z" rel="noopener noreferrer nofollow">https://x.y/z</a></p>'),
    ("<https://x.y/_a_>", '<p><a href="https://x.y/_a_" rel="noopener noreferrer nofollow">https://x.y/_a_</a></p>'),
    ("**a:**b", "<p><strong>a:</strong>b</p>"),
]


@pytest.mark.parametrize(("raw", "html"), GOLDEN)
def test_an_answer_becomes_exactly_this_html(raw: str, html: str) -> None:
    renderer = HtmlRenderer()
    assert renderer.feed(raw) + renderer.finish() == html


@pytest.mark.parametrize(("raw", "html"), GOLDEN)
def test_an_answer_becomes_exactly_this_html_a_character_at_a_time(raw: str, html: str) -> None:
    renderer = HtmlRenderer()
    assert "".join([renderer.feed(character) for character in raw]) + renderer.finish() == html


# (what was fed so far, what was written for it): a delta is never late without a reason.
AT_ONCE = [
    ("Hel", "<p>Hel"),
    ("Hello **wor", "<p>Hello <strong>wor"),
    ("Hello **", "<p>Hello "),
    ("Hello *", "<p>Hello "),
    ("see [the ta", "<p>see "),
    ("see [1] ", "<p>see [1] "),
    ("see [1](", "<p>see "),
    ("a &am", "<p>a "),
    ("R&D ", "<p>R&amp;D "),
    ("a <b", "<p>a "),
    ("a < b", "<p>a &lt; b"),
    ("a\n", "<p>a"),
    ("a\n-", "<p>a"),
    ("a\n- ", "<p>a"),
    ("a\n- b", "<p>a</p><ul><li>b"),
    ("a\n\n", "<p>a</p>"),
    ("#", ""),
    ("# ", ""),
    ("# T", "<h1>T"),
    ("```py", ""),
    ("```py\n", "<pre><code>"),
    ("```py\nx = 1", "<pre><code>x = 1"),
    ("```py\nx = 1\n``", "<pre><code>x = 1\n"),
    ("`co", "<p><code>co"),
    ("wow!", "<p>wow"),
    ("a <script>b", "<p>a "),
]


@pytest.mark.parametrize(("raw", "html"), AT_ONCE)
def test_only_what_is_ambiguous_is_held_back(raw: str, html: str) -> None:
    assert HtmlRenderer().feed(raw) == html


def test_close_tags_says_what_would_complete_the_output_and_changes_nothing() -> None:
    renderer = HtmlRenderer()
    renderer.feed("- a **b")
    assert renderer.close_tags() == renderer.close_tags() == "</strong></li></ul>"
    assert renderer.feed("** c") + renderer.finish() == "</strong> c</li></ul>"


def test_finishing_twice_writes_nothing_more() -> None:
    renderer = HtmlRenderer()
    renderer.feed("a <")
    assert renderer.finish() == "&lt;</p>"
    assert renderer.finish() == ""
