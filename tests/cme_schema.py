"""A small SBE schema in the shape of CME's templates_FixBinary.xml, schema 1 version 6, for tests."""

SCHEMA = b"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<ns2:messageSchema xmlns:ns2="http://www.fixprotocol.org/ns/simple/1.0" package="mktdata" id="1" version="6"
    semanticVersion="FIX5SP2" byteOrder="littleEndian">
  <types>
    <type name="uInt8" primitiveType="uint8"/>
    <type name="uInt8NULL" presence="optional" nullValue="255" primitiveType="uint8"/>
    <type name="uInt32" primitiveType="uint32"/>
    <type name="uInt32NULL" presence="optional" nullValue="4294967295" primitiveType="uint32"/>
    <type name="uInt64" primitiveType="uint64"/>
    <type name="Int32" primitiveType="int32"/>
    <type name="Int32NULL" presence="optional" nullValue="2147483647" primitiveType="int32"/>
    <type name="Int16" primitiveType="int16"/>
    <type name="Int8" primitiveType="int8"/>
    <type name="CHAR" primitiveType="char"/>
    <type name="LocalMktDate" presence="optional" nullValue="65535" primitiveType="uint16"/>
    <type name="Symbol" length="20" primitiveType="char"/>
    <type name="SecurityGroup" length="6" primitiveType="char"/>
    <type name="Asset" length="6" primitiveType="char"/>
    <type name="Currency" length="3" primitiveType="char"/>
    <type name="CFICode" length="6" primitiveType="char"/>
    <type name="SecurityType" length="6" primitiveType="char"/>
    <type name="MDEntryTypeVol" presence="constant" primitiveType="char">e</type>
    <type name="MDEntryTypeTrade" presence="constant" primitiveType="char">2</type>
    <type name="MDEntryTypeChannelReset" presence="constant" primitiveType="char">J</type>
    <type name="MDUpdateActionNew" presence="constant" primitiveType="int8">0</type>
    <composite name="PRICE">
      <type name="mantissa" primitiveType="int64"/>
      <type name="exponent" presence="constant" primitiveType="int8">-7</type>
    </composite>
    <composite name="PRICENULL">
      <type name="mantissa" presence="optional" nullValue="9223372036854775807" primitiveType="int64"/>
      <type name="exponent" presence="constant" primitiveType="int8">-7</type>
    </composite>
    <composite name="groupSize">
      <type name="blockLength" primitiveType="uint16"/>
      <type name="numInGroup" primitiveType="uint8"/>
    </composite>
    <composite name="groupSize8Byte">
      <type name="blockLength" primitiveType="uint16"/>
      <type name="numInGroup" offset="7" primitiveType="uint8"/>
    </composite>
    <composite name="messageHeader">
      <type name="blockLength" primitiveType="uint16"/>
      <type name="templateId" primitiveType="uint16"/>
      <type name="schemaId" primitiveType="uint16"/>
      <type name="version" primitiveType="uint16"/>
    </composite>
    <enum name="MDEntryTypeBook" encodingType="CHAR">
      <validValue name="Bid">0</validValue>
      <validValue name="Offer">1</validValue>
      <validValue name="ImpliedBid">E</validValue>
      <validValue name="ImpliedOffer">F</validValue>
      <validValue name="BookReset">J</validValue>
    </enum>
    <enum name="MDUpdateAction" encodingType="uInt8">
      <validValue name="New">0</validValue>
      <validValue name="Change">1</validValue>
      <validValue name="Delete">2</validValue>
    </enum>
    <enum name="AggressorSide" encodingType="uInt8NULL">
      <validValue name="NoAggressor">0</validValue>
      <validValue name="Buy">1</validValue>
      <validValue name="Sell">2</validValue>
    </enum>
    <set name="MatchEventIndicator" encodingType="uInt8">
      <choice name="LastTradeMsg">0</choice>
      <choice name="EndOfEvent">7</choice>
    </set>
  </types>
  <ns2:message name="ChannelReset4" id="4" blockLength="9">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="8"/>
    <group name="NoMDEntries" id="268" blockLength="2" dimensionType="groupSize">
      <field name="MDUpdateAction" id="279" type="MDUpdateActionNew"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeChannelReset"/>
      <field name="ApplID" id="1180" type="Int16" offset="0"/>
    </group>
  </ns2:message>
  <ns2:message name="AdminHeartbeat12" id="12" blockLength="0"/>
  <ns2:message name="MDInstrumentDefinitionFuture27" id="27" blockLength="216">
    <field name="SecurityGroup" id="1151" type="SecurityGroup" offset="20"/>
    <field name="Asset" id="6937" type="Asset" offset="26"/>
    <field name="Symbol" id="55" type="Symbol" offset="32"/>
    <field name="SecurityID" id="48" type="Int32" offset="52"/>
    <field name="SecurityType" id="167" type="SecurityType" offset="56"/>
    <field name="CFICode" id="461" type="CFICode" offset="62"/>
    <field name="Currency" id="15" type="Currency" offset="73"/>
    <field name="MinTradeVol" id="562" type="uInt32" offset="84"/>
    <field name="MinPriceIncrement" id="969" type="PRICENULL" offset="92"/>
    <field name="UnitOfMeasureQty" id="1147" type="PRICENULL" offset="140"/>
  </ns2:message>
  <ns2:message name="SecurityStatus30" id="30" blockLength="30">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="SecurityGroup" id="1151" type="SecurityGroup" offset="8"/>
    <field name="Asset" id="6937" type="Asset" offset="14"/>
    <field name="SecurityID" id="48" type="Int32NULL" offset="20"/>
    <field name="TradeDate" id="75" type="LocalMktDate" offset="24"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="26"/>
    <field name="SecurityTradingStatus" id="326" type="uInt8NULL" offset="27"/>
    <field name="HaltReason" id="327" type="uInt8" offset="28"/>
    <field name="SecurityTradingEvent" id="1174" type="uInt8" offset="29"/>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshBook32" id="32" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="8"/>
    <group name="NoMDEntries" id="268" blockLength="32" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICENULL" offset="0"/>
      <field name="MDEntrySize" id="271" type="Int32NULL" offset="8"/>
      <field name="SecurityID" id="48" type="Int32" offset="12"/>
      <field name="RptSeq" id="83" type="uInt32" offset="16"/>
      <field name="NumberOfOrders" id="346" type="Int32NULL" offset="20"/>
      <field name="MDPriceLevel" id="1023" type="uInt8" offset="24"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="25"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeBook" offset="26"/>
    </group>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshSessionStatistics35" id="35" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="8"/>
    <group name="NoMDEntries" id="268" blockLength="24" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICE" offset="0"/>
      <field name="SecurityID" id="48" type="Int32" offset="8"/>
      <field name="RptSeq" id="83" type="uInt32" offset="12"/>
      <field name="OpenCloseSettlFlag" id="286" type="uInt8NULL" offset="16"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="17"/>
      <field name="MDEntryType" id="269" type="CHAR" offset="18"/>
    </group>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshVolume37" id="37" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="8"/>
    <group name="NoMDEntries" id="268" blockLength="16" dimensionType="groupSize">
      <field name="MDEntrySize" id="271" type="Int32" offset="0"/>
      <field name="SecurityID" id="48" type="Int32" offset="4"/>
      <field name="RptSeq" id="83" type="uInt32" offset="8"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="12"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeVol"/>
    </group>
  </ns2:message>
  <ns2:message name="SnapshotFullRefresh38" id="38" blockLength="59">
    <field name="LastMsgSeqNumProcessed" id="369" type="uInt32" offset="0"/>
    <field name="TotNumReports" id="911" type="uInt32" offset="4"/>
    <field name="SecurityID" id="48" type="Int32" offset="8"/>
    <field name="RptSeq" id="83" type="uInt32" offset="12"/>
    <field name="TransactTime" id="60" type="uInt64" offset="16"/>
    <group name="NoMDEntries" id="268" blockLength="22" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICENULL" offset="0"/>
      <field name="MDEntrySize" id="271" type="Int32NULL" offset="8"/>
      <field name="NumberOfOrders" id="346" type="Int32NULL" offset="12"/>
      <field name="MDPriceLevel" id="1023" type="Int8" offset="16"/>
      <field name="MDEntryType" id="269" type="CHAR" offset="21"/>
    </group>
  </ns2:message>
  <ns2:message name="QuoteRequest39" id="39" blockLength="35">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshTradeSummary42" id="42" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <field name="MatchEventIndicator" id="5799" type="MatchEventIndicator" offset="8"/>
    <group name="NoMDEntries" id="268" blockLength="32" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICE" offset="0"/>
      <field name="MDEntrySize" id="271" type="Int32" offset="8"/>
      <field name="SecurityID" id="48" type="Int32" offset="12"/>
      <field name="RptSeq" id="83" type="uInt32" offset="16"/>
      <field name="NumberOfOrders" id="346" type="Int32" offset="20"/>
      <field name="AggressorSide" id="5797" type="AggressorSide" offset="24"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="25"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeTrade"/>
    </group>
    <group name="NoOrderIDEntries" id="37705" blockLength="16" dimensionType="groupSize8Byte">
      <field name="OrderID" id="37" type="uInt64" offset="0"/>
      <field name="LastQty" id="32" type="Int32" offset="8"/>
    </group>
  </ns2:message>
</ns2:messageSchema>
"""
