"use strict";(self.rspackChunkgenai_cache_magic=self.rspackChunkgenai_cache_magic||[]).push([[700],{646(r,e,o){var t=o(601),n=o.n(t),a=o(76),l=(o.n(a))()(n());l.push([r.id,`/* In the colours of the theme: nothing here has one of its own but the dots and bars. */

.gcl-report {
  padding: 2px 8px;
  overflow-wrap: anywhere;
}

/* JupyterLab before 4.1 hides no button of a cell's toolbar by itself. */
.jp-cell-toolbar [data-command^='genai-cache:'].lm-mod-hidden {
  display: none;
}

.gcl-status button {
  border: 0;
  background: none;
  color: inherit;
  font: inherit;
  padding: 0 6px;
  height: 100%;
  cursor: pointer;
  white-space: nowrap;
}

.gcl-status button:hover {
  background: var(--jp-layout-color2);
}

.gcl-status.gcl-mod-trouble button {
  color: var(--jp-warn-color-normal, #a15c00);
}

.gcl-sidebar {
  --gcl-saved: #1a7f37;
  --gcl-spent: #b35900;

  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
  line-height: 1.45;
  min-width: 240px;
  overflow: hidden auto;
  overflow-wrap: anywhere;
  padding: 8px 12px 24px;
  box-sizing: border-box;
}

[data-jp-theme-light='false'] .gcl-sidebar {
  --gcl-saved: #4ac26b;
  --gcl-spent: #f0a35c;

  color-scheme: dark;
}

.gcl-sidebar [hidden] {
  display: none !important;
}

.gcl-sidebar h2,
.gcl-sidebar h3,
.gcl-sidebar h4 {
  font-size: inherit;
  font-weight: 600;
  margin: 0;
}

.gcl-sidebar h4 {
  color: var(--jp-ui-font-color2);
  margin-top: 6px;
}

.gcl-sidebar p {
  margin: 2px 0;
}

.gcl-sidebar ul {
  list-style: none;
  margin: 0;
  padding: 0;
}

.gcl-head,
.gcl-line {
  align-items: center;
  display: flex;
  gap: 6px;
}

.gcl-head {
  justify-content: space-between;
}

.gcl-section {
  border-top: 1px solid var(--jp-border-color2);
  margin-top: 8px;
  padding-top: 8px;
}

.gcl-section:empty {
  display: none;
}

.gcl-section h3 {
  margin-bottom: 4px;
}

.gcl-note,
.gcl-empty,
.gcl-count,
.gcl-key {
  color: var(--jp-ui-font-color2);
}

.gcl-said:not(:empty) {
  background: var(--jp-layout-color2);
  border-radius: 4px;
  margin: 8px 0;
  padding: 4px 8px;
}

.gcl-state {
  align-items: baseline;
  display: flex;
  gap: 6px;
}

.gcl-dot,
.gcl-swatch {
  background: var(--jp-ui-font-color3);
  border-radius: 50%;
  display: inline-block;
  flex: none;
  height: 8px;
  width: 8px;
}

.gcl-swatch {
  border-radius: 2px;
  margin: 0 4px 0 8px;
}

.gcl-mod-ok .gcl-dot,
.gcl-swatch.gcl-mod-saved {
  background: var(--gcl-saved);
}

.gcl-mod-behind .gcl-dot,
.gcl-mod-unreachable .gcl-dot,
.gcl-swatch.gcl-mod-spent {
  background: var(--gcl-spent);
}

.gcl-mod-broken .gcl-dot {
  background: var(--jp-error-color1, #b3261e);
}

.gcl-chart {
  display: block;
  margin: 4px 0;
  width: 100%;
}

.gcl-chart text {
  fill: var(--jp-ui-font-color2);
  font-size: 10px;
}

.gcl-chart .gcl-saved {
  fill: var(--gcl-saved);
}

.gcl-chart .gcl-spent {
  fill: var(--gcl-spent);
}

.gcl-chart .gcl-day {
  fill: transparent;
}

.gcl-chart .gcl-axis {
  stroke: var(--jp-border-color1);
}

.gcl-models li {
  font-variant-numeric: tabular-nums;
  padding: 2px 0;
}

.gcl-line {
  min-height: 26px;
}

.gcl-line .gcl-link,
.gcl-line .gcl-name {
  flex: 1 1 auto;
  min-width: 0;
  text-align: left;
}

.gcl-count {
  font-variant-numeric: tabular-nums;
}

.gcl-button,
.gcl-link {
  background: none;
  border: 1px solid var(--jp-border-color1);
  border-radius: 4px;
  color: var(--jp-content-link-color, var(--jp-brand-color0));
  cursor: pointer;
  flex: none;
  font: inherit;
  min-height: 24px;
  padding: 0 8px;
}

.gcl-link {
  border-color: transparent;
  overflow-wrap: anywhere;
  padding: 0;
}

.gcl-button:hover,
.gcl-link:hover {
  background: var(--jp-layout-color2);
}

.gcl-sidebar :focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

.gcl-mod-danger {
  border-color: var(--jp-error-color1, #b3261e);
  color: var(--jp-error-color0, #b3261e);
}

.gcl-asking {
  border: 1px solid var(--jp-error-color1, #b3261e);
  border-radius: 4px;
  display: flex;
  flex-wrap: wrap;
  gap: 6px;
  margin: 4px 0;
  padding: 6px 8px;
}

.gcl-doctor {
  list-style: none;
  margin: 0;
  max-width: 60em;
  overflow-wrap: anywhere;
  padding: 0;
}

.gcl-filters {
  display: flex;
  flex-wrap: wrap;
  gap: 4px;
}

.gcl-filters input,
.gcl-filters select {
  background: var(--jp-layout-color1);
  border: 1px solid var(--jp-border-color1);
  border-radius: 4px;
  box-sizing: border-box;
  color: inherit;
  flex: 1 1 90px;
  font: inherit;
  min-height: 26px;
  min-width: 0;
  padding: 0 6px;
}

.gcl-filters input {
  flex-basis: 100%;
}

.gcl-entries li {
  border-bottom: 1px solid var(--jp-border-color2);
  padding: 4px 0;
}

.gcl-body pre {
  background: var(--jp-layout-color2);
  border-radius: 4px;
  font-family: var(--jp-code-font-family);
  font-size: 12px;
  margin: 2px 0;
  max-height: 320px;
  overflow: auto;
  padding: 6px 8px;
  white-space: pre-wrap;
}
`,""]),o.d(e,{},{A:l})},76(r){r.exports=function(r){var e=[];return e.toString=function(){return this.map(function(e){var o="",t=void 0!==e[5];return e[4]&&(o+="@supports (".concat(e[4],") {")),e[2]&&(o+="@media ".concat(e[2]," {")),t&&(o+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),o+=r(e),t&&(o+="}"),e[2]&&(o+="}"),e[4]&&(o+="}"),o}).join("")},e.i=function(r,o,t,n,a){"string"==typeof r&&(r=[[null,r,void 0]]);var l={};if(t)for(var c=0;c<this.length;c++){var i=this[c][0];null!=i&&(l[i]=!0)}for(var p=0;p<r.length;p++){var s=[].concat(r[p]);t&&l[s[0]]||(void 0!==a&&(void 0===s[5]||(s[1]="@layer".concat(s[5].length>0?" ".concat(s[5]):""," {").concat(s[1],"}")),s[5]=a),o&&(s[2]&&(s[1]="@media ".concat(s[2]," {").concat(s[1],"}")),s[2]=o),n&&(s[4]?(s[1]="@supports (".concat(s[4],") {").concat(s[1],"}"),s[4]=n):s[4]="".concat(n)),e.push(s))}},e}},601(r){r.exports=function(r){return r[1]}},72(r){var e=[];function o(r){for(var o=-1,t=0;t<e.length;t++)if(e[t].identifier===r){o=t;break}return o}function t(r,t){for(var n={},a=[],l=0;l<r.length;l++){var c=r[l],i=t.base?c[0]+t.base:c[0],p=n[i]||0,s="".concat(i," ").concat(p);n[i]=p+1;var d=o(s),g={css:c[1],media:c[2],sourceMap:c[3],supports:c[4],layer:c[5]};if(-1!==d)e[d].references++,e[d].updater(g);else{var u=function(r,e){var o=e.domAPI(e);return o.update(r),function(e){e?(e.css!==r.css||e.media!==r.media||e.sourceMap!==r.sourceMap||e.supports!==r.supports||e.layer!==r.layer)&&o.update(r=e):o.remove()}}(g,t);t.byIndex=l,e.splice(l,0,{identifier:s,updater:u,references:1})}a.push(s)}return a}r.exports=function(r,n){var a=t(r=r||[],n=n||{});return function(r){r=r||[];for(var l=0;l<a.length;l++){var c=o(a[l]);e[c].references--}for(var i=t(r,n),p=0;p<a.length;p++){var s=o(a[p]);0===e[s].references&&(e[s].updater(),e.splice(s,1))}a=i}}},659(r){var e={};r.exports=function(r,o){var t=function(r){if(void 0===e[r]){var o=document.querySelector(r);if(window.HTMLIFrameElement&&o instanceof window.HTMLIFrameElement)try{o=o.contentDocument.head}catch(r){o=null}e[r]=o}return e[r]}(r);if(!t)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");t.appendChild(o)}},540(r){r.exports=function(r){var e=document.createElement("style");return r.setAttributes(e,r.attributes),r.insert(e,r.options),e}},56(r,e,o){r.exports=function(r){var e=o.nc;e&&r.setAttribute("nonce",e)}},825(r){r.exports=function(r){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=r.insertStyleElement(r);return{update:function(o){var t,n,a;t="",o.supports&&(t+="@supports (".concat(o.supports,") {")),o.media&&(t+="@media ".concat(o.media," {")),(n=void 0!==o.layer)&&(t+="@layer".concat(o.layer.length>0?" ".concat(o.layer):""," {")),t+=o.css,n&&(t+="}"),o.media&&(t+="}"),o.supports&&(t+="}"),(a=o.sourceMap)&&"u">typeof btoa&&(t+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),r.styleTagTransform(t,e,r.options)},remove:function(){var r;null===(r=e).parentNode||r.parentNode.removeChild(r)}}}},113(r){r.exports=function(r,e){if(e.styleSheet)e.styleSheet.cssText=r;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(r))}}},959(r,e,o){var t=o(72),n=o.n(t),a=o(825),l=o.n(a),c=o(659),i=o.n(c),p=o(56),s=o.n(p),d=o(540),g=o.n(d),u=o(113),f=o.n(u),h=o(646),b={};b.styleTagTransform=f(),b.setAttributes=s(),b.insert=i().bind(null,"head"),b.domAPI=l(),b.insertStyleElement=g(),n()(h.A,b),h.A&&h.A.locals&&h.A.locals}}]);